// Package frame is how deliveries stand in Redis: one codec for bundles, retries
// and backlogs.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"

	"github.com/sealpost/sealpost/core"
)

// A frame is how deliveries stand in Redis:
//
//	byte 0     version, 2
//	byte 1     flags: bit 0 = the body is s2-compressed; the others are 0
//	byte 2-5   CRC-32C of the uncompressed body, little-endian
//	byte 6-    the body
//
// Scripts of redisstore read the flag and the length that a compressed body begins
// with, see luaDecoded there.
//
// A body is
//
//	4 bytes    length of the part that follows, little-endian
//	events     their number; the columns accepted, type, length of its bytes, origin,
//	           age, id
//	deliveries their number; the columns event, organization, endpoint, attempts,
//	           due, id
//	rest       the events' bytes, one after the other
//
// A column holds one field of all, because what differs little compresses well
// when it stands together. Numbers are varints (times signed, the rest unsigned),
// times milliseconds, strings their length and their bytes. An event's time
// counts from that of the event before; a delivery's event is 0 for the one of
// the delivery before and 1 for the next. The length of a type and of an
// organization is counted from 1, and 0 means the same as before; that of an
// endpoint from 2, 0 means the same as before and 1 that the 16 bytes of its UUID
// follow. A due time of zero is 0.
//
// The column of origins is a single 0 if no event has one, else a 1 and, for each
// event, 0 for none, 1 for the same as before, or 2 and the request id, and then 0
// for no trace or the length of its state counted from 1, its two ids, its flags
// and that state.
//
// The column of ages is a single 0 if no event has one, else a 1 and, for each
// event, the milliseconds it may grow old, 0 for no limit.
//
// Ids are two columns. In the first stands the length counted from 1, or, of an
// id that Sealpost gave, a 0 and its time, counted from its event's; in the second
// the bytes, or the 10 random ones.
const (
	version         = 2
	flagCompressed  = 1
	header          = 6
	bodyHeader      = 4
	minEventSize    = 4 // bytes of an event's and of a delivery's shortest form
	minDeliverySize = 6

	// minCompressed is the body length from which compression pays, in bytes.
	minCompressed = 512
)

const (
	// MaxBody bounds a body before compression, in bytes, when writing and, so
	// that no blob can blow up a sender, when reading.
	MaxBody = 16 << 20

	// MaxDeliveries bounds the deliveries of a frame that is read: far above what
	// is written.
	MaxDeliveries = 1 << 16
)

// ErrUndecodable is the error of everything that this version does not understand:
// it is broken, or a newer version wrote it.
var ErrUndecodable = errors.New("undecodable")

// ErrTooLarge is the error of deliveries whose body is beyond MaxBody.
var ErrTooLarge = fmt.Errorf("frame is larger than %d bytes", MaxBody)

// checksum returns the CRC-32C of a body: the one that processors compute by
// themselves.
func checksum(body []byte) uint32 {
	return crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
}

// Encoder turns deliveries into frames. Its buffers are reused: a frame is valid
// until the next call. The zero Encoder is ready; it is not safe for concurrent use.
type Encoder struct {
	body   []byte
	frame  []byte
	events []*core.Event // of the deliveries
	tails  []byte        // second column of ids
}

// maxRetained is the buffer size above which an encoder is not kept, in bytes.
const maxRetained = 1 << 20

// Retainable reports whether the buffers are small enough to be kept.
func (e *Encoder) Retainable() bool { return cap(e.body)+cap(e.frame) <= 2*maxRetained }

// BodySize returns the bytes of the last frame before compression.
func (e *Encoder) BodySize() int { return len(e.body) }

// Encode returns the frame of ds. Deliveries of one event have to follow each
// other, so that its bytes stand there once. Its error is ErrTooLarge.
func (e *Encoder) Encode(ds []core.Delivery) ([]byte, error) {
	e.body = e.appendBody(e.body[:0], ds)
	if len(e.body) > MaxBody {
		return nil, ErrTooLarge
	}
	size := len(e.body)
	if size >= minCompressed {
		size = s2.MaxEncodedLen(size)
	}
	e.frame = slices.Grow(e.frame[:0], header+size)[:header+size]
	e.frame[0], e.frame[1] = version, 0
	binary.LittleEndian.PutUint32(e.frame[2:], checksum(e.body))
	if len(e.body) >= minCompressed {
		if packed := s2.EncodeBetter(e.frame[header:], e.body); len(packed) < len(e.body) {
			e.frame[1] = flagCompressed
			return e.frame[:header+len(packed)], nil
		}
	}
	n := copy(e.frame[header:], e.body)
	return e.frame[:header+n], nil
}

// appendBody appends the body of ds to dst, which is empty. Deliveries of one
// event that follow each other share its bytes.
func (e *Encoder) appendBody(dst []byte, ds []core.Delivery) []byte {
	e.events = e.events[:0]
	for i := range ds {
		if startsEvent(ds, i) {
			e.events = append(e.events, ds[i].Event)
		}
	}
	dst = append(dst, make([]byte, bodyHeader)...)
	dst = e.appendEvents(dst)
	dst = e.appendDeliveries(dst, ds)
	binary.LittleEndian.PutUint32(dst, uint32(len(dst)-bodyHeader))
	for _, event := range e.events {
		dst = append(dst, event.Body...)
	}
	clear(e.events)
	return dst
}

func startsEvent(ds []core.Delivery, i int) bool { return i == 0 || ds[i].Event != ds[i-1].Event }

func (e *Encoder) appendEvents(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(e.events)))
	before := int64(0)
	for _, event := range e.events {
		accepted := event.AcceptedAt.UnixMilli()
		dst = binary.AppendVarint(dst, accepted-before)
		before = accepted
	}
	for i, event := range e.events {
		dst = appendUnlessSame(dst, event.Type, e.events[max(i-1, 0)].Type, i == 0)
	}
	for _, event := range e.events {
		dst = binary.AppendUvarint(dst, uint64(len(event.Body)))
	}
	dst = appendOrigins(dst, e.events)
	dst = appendAges(dst, e.events)
	e.tails = e.tails[:0]
	for _, event := range e.events {
		dst = e.appendID(dst, core.EventIDPrefix, event.ID, event)
	}
	return append(dst, e.tails...)
}

func (e *Encoder) appendDeliveries(dst []byte, ds []core.Delivery) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ds)))
	for i := range ds {
		next := byte(0)
		if i > 0 && startsEvent(ds, i) {
			next = 1
		}
		dst = append(dst, next)
	}
	for i := range ds {
		dst = appendUnlessSame(dst, ds[i].Organization, ds[max(i-1, 0)].Organization, i == 0)
	}
	for i := range ds {
		dst = appendEndpoint(dst, ds[i].Endpoint, ds[max(i-1, 0)].Endpoint, i == 0)
	}
	for i := range ds {
		dst = binary.AppendUvarint(dst, uint64(max(ds[i].Attempts, 0)))
	}
	for i := range ds {
		dst = appendTime(dst, ds[i].Due)
	}
	e.tails = e.tails[:0]
	for i := range ds {
		dst = e.appendID(dst, core.DeliveryIDPrefix, ds[i].ID, ds[i].Event)
	}
	return append(dst, e.tails...)
}

func appendUnlessSame(dst []byte, s, before string, first bool) []byte {
	if s == before && !first {
		return append(dst, 0)
	}
	return append(binary.AppendUvarint(dst, uint64(len(s))+1), s...)
}

func appendEndpoint(dst []byte, id, before string, first bool) []byte {
	if id == before && !first {
		return append(dst, 0)
	}
	if core.ValidEndpointID(id) {
		if u, err := uuid.Parse(id); err == nil {
			return append(append(dst, 1), u[:]...)
		}
	}
	return append(binary.AppendUvarint(dst, uint64(len(id))+2), id...)
}

// appendID appends the id of event, or of a delivery of it, to the two columns:
// dst is the first, e.tails the second.
func (e *Encoder) appendID(dst []byte, prefix, id string, event *core.Event) []byte {
	if raw, ok := core.PackID(prefix, id); ok {
		e.tails = append(e.tails, raw[idTimeSize:]...)
		return binary.AppendVarint(append(dst, 0), idTime(raw)-event.AcceptedAt.UnixMilli())
	}
	e.tails = append(e.tails, id...)
	return binary.AppendUvarint(dst, uint64(len(id))+1)
}

// idTimeSize is the part of a packed id that is its time, in bytes.
const idTimeSize = 6

func idTime(raw [16]byte) int64 { return int64(binary.BigEndian.Uint64(raw[:]) >> 16) }

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, 0)
	}
	return binary.AppendVarint(dst, t.UnixMilli())
}
