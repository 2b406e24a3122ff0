package queue

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
//	byte 0     version, 1
//	byte 1     flags: bit 0 = the body is s2-compressed; the others are 0
//	byte 2-5   CRC-32C of the uncompressed body, little-endian
//	byte 6-    the body
//
// A body is
//
//	4 bytes    length of the part that follows, little-endian
//	           number of events; of each: id, type, accepted (ms), length of its bytes
//	           number of deliveries; of each: id, organization, endpoint, index of
//	           its event, attempts, due (ms)
//	rest       the events' bytes, one after the other
//
// Numbers are varints (times signed, the rest unsigned), strings their length
// and their bytes. An organization's length is counted from 1, and 0 means the
// one of the delivery before. An endpoint's too, and 0 means that the 16 bytes
// of a UUID follow. A zero time is 0.
const (
	frameVersion    = 1
	flagCompressed  = 1
	frameHeader     = 6
	bodyHeader      = 4
	minEventSize    = 4 // bytes of an event's and of a delivery's shortest form
	minDeliverySize = 6

	// minCompressed is the body length from which compression pays, in bytes.
	minCompressed = 512

	// maxBody bounds a body before compression, in bytes, when writing and, so
	// that no blob can blow up a sender, when reading.
	maxBody = 16 << 20
)

// errUndecodable is the error of every payload and blob that this version does
// not understand.
var errUndecodable = errors.New("undecodable bundle")

// errTooLarge is the error of a bundle beyond maxBody: a single event's.
var errTooLarge = fmt.Errorf("bundle is larger than %d bytes", maxBody)

// checksum returns the CRC-32C of a body: the one that processors compute by
// themselves.
func checksum(body []byte) uint32 {
	return crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
}

// encoder turns deliveries into frames. Its buffers are reused: a frame is valid
// until the next call.
type encoder struct {
	body  []byte
	frame []byte
}

// maxRetained is the buffer size above which an encoder is not kept, in bytes.
const maxRetained = 1 << 20

func (e *encoder) retainable() bool { return cap(e.body)+cap(e.frame) <= 2*maxRetained }

func (e *encoder) encode(ds []core.Delivery) ([]byte, error) {
	e.body = appendBody(e.body[:0], ds)
	if len(e.body) > maxBody {
		return nil, errTooLarge
	}
	size := len(e.body)
	if size >= minCompressed {
		size = s2.MaxEncodedLen(size)
	}
	e.frame = slices.Grow(e.frame[:0], frameHeader+size)[:frameHeader+size]
	e.frame[0], e.frame[1] = frameVersion, 0
	binary.LittleEndian.PutUint32(e.frame[2:], checksum(e.body))
	if len(e.body) >= minCompressed {
		if packed := s2.Encode(e.frame[frameHeader:], e.body); len(packed) < len(e.body) {
			e.frame[1] = flagCompressed
			return e.frame[:frameHeader+len(packed)], nil
		}
	}
	n := copy(e.frame[frameHeader:], e.body)
	return e.frame[:frameHeader+n], nil
}

// appendBody appends the body of ds to dst, which is empty. Deliveries of one
// event that follow each other share its bytes.
func appendBody(dst []byte, ds []core.Delivery) []byte {
	dst = append(dst, make([]byte, bodyHeader)...)
	events := uint64(0)
	for i := range ds {
		if startsEvent(ds, i) {
			events++
		}
	}
	dst = binary.AppendUvarint(dst, events)
	for i := range ds {
		if e := ds[i].Event; startsEvent(ds, i) {
			dst = appendString(dst, e.ID)
			dst = appendString(dst, e.Type)
			dst = appendTime(dst, e.AcceptedAt)
			dst = binary.AppendUvarint(dst, uint64(len(e.Body)))
		}
	}
	dst = appendDeliveries(dst, ds)
	binary.LittleEndian.PutUint32(dst, uint32(len(dst)-bodyHeader))
	for i := range ds {
		if startsEvent(ds, i) {
			dst = append(dst, ds[i].Event.Body...)
		}
	}
	return dst
}

func startsEvent(ds []core.Delivery, i int) bool { return i == 0 || ds[i].Event != ds[i-1].Event }

func appendDeliveries(dst []byte, ds []core.Delivery) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ds)))
	event, organization := -1, ""
	for i := range ds {
		d := &ds[i]
		if startsEvent(ds, i) {
			event++
		}
		dst = appendString(dst, d.ID)
		if d.Organization == organization {
			dst = append(dst, 0)
		} else {
			organization = d.Organization
			dst = binary.AppendUvarint(dst, uint64(len(organization))+1)
			dst = append(dst, organization...)
		}
		dst = appendEndpoint(dst, d.Endpoint)
		dst = binary.AppendUvarint(dst, uint64(event))
		dst = binary.AppendUvarint(dst, uint64(max(d.Attempts, 0)))
		dst = appendTime(dst, d.Due)
	}
	return dst
}

func appendEndpoint(dst []byte, id string) []byte {
	if core.ValidEndpointID(id) {
		if u, err := uuid.Parse(id); err == nil {
			return append(append(dst, 0), u[:]...)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(id))+1)
	return append(dst, id...)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, 0)
	}
	return binary.AppendVarint(dst, t.UnixMilli())
}
