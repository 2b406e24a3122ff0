package queue

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"

	"github.com/sealpost/sealpost/core"
)

// decodeFrame returns the deliveries of a frame. They alias b or a buffer of
// their own: b must not change afterwards. Every error is an errUndecodable.
func decodeFrame(b []byte) ([]core.Delivery, error) {
	if len(b) < frameHeader {
		return nil, undecodable("frame of %d bytes", len(b))
	}
	if b[0] != frameVersion || b[1]&^flagCompressed != 0 {
		return nil, undecodable("frame version %d, flags %#x", b[0], b[1])
	}
	body := b[frameHeader:]
	if b[1]&flagCompressed != 0 {
		n, err := s2.DecodedLen(body)
		if err != nil || n > maxBody {
			return nil, undecodable("compressed body of %d bytes: %v", n, err)
		}
		if body, err = s2.Decode(make([]byte, n), body); err != nil {
			return nil, undecodable("body: %v", err)
		}
	}
	if len(body) > maxBody {
		return nil, undecodable("body of %d bytes", len(body))
	}
	if checksum(body) != binary.LittleEndian.Uint32(b[2:]) {
		return nil, undecodable("checksum differs")
	}
	return decodeBody(body)
}

func undecodable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUndecodable, fmt.Sprintf(format, args...))
}

func decodeBody(body []byte) ([]core.Delivery, error) {
	if len(body) < bodyHeader {
		return nil, undecodable("body of %d bytes", len(body))
	}
	n, rest := binary.LittleEndian.Uint32(body), body[bodyHeader:]
	if uint64(n) > uint64(len(rest)) {
		return nil, undecodable("%d bytes announced, %d there", n, len(rest))
	}
	// One copy makes all strings of the bundle; the bytes of events alias body.
	r := reader{bytes: rest[:n], text: string(rest[:n])}
	events := r.events(rest[n:])
	ds := r.deliveries(events)
	if r.failed || r.at != len(r.bytes) {
		return nil, undecodable("broken at byte %d of %d", r.at, len(r.bytes))
	}
	return ds, nil
}

// reader walks through a body. After the first mistake it is failed and yields
// zero values, so that its users need not look after every step.
type reader struct {
	bytes  []byte
	text   string // the same bytes
	at     int
	failed bool
}

func (r *reader) fail() { r.failed = true }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.bytes[r.at:])
	if n <= 0 {
		r.fail()
		return 0
	}
	r.at += n
	return v
}

// count reads a number of things that take at least size bytes each, so that a
// lie about it costs no memory.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > maxBundleSize || n > uint64((len(r.bytes)-r.at)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) take(n uint64) string {
	if n > uint64(len(r.bytes)-r.at) {
		r.fail()
		return ""
	}
	s := r.text[r.at : r.at+int(n)]
	r.at += int(n)
	return s
}

func (r *reader) time() time.Time {
	ms, n := binary.Varint(r.bytes[r.at:])
	if n <= 0 {
		r.fail()
		return time.Time{}
	}
	r.at += n
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// events reads the table of events, whose bytes stand one after the other in
// bodies and fill it.
func (r *reader) events(bodies []byte) []core.Event {
	events := make([]core.Event, r.count(minEventSize))
	for i := range events {
		e := &events[i]
		e.ID, e.Type, e.AcceptedAt = r.take(r.uvarint()), r.take(r.uvarint()), r.time()
		n := r.uvarint()
		if r.failed || n > uint64(len(bodies)) {
			r.fail()
			return nil
		}
		e.Body, bodies = bodies[:n:n], bodies[n:]
	}
	if len(bodies) != 0 {
		r.fail()
	}
	return events
}

func (r *reader) deliveries(events []core.Event) []core.Delivery {
	ds := make([]core.Delivery, r.count(minDeliverySize))
	organization := ""
	for i := range ds {
		d := &ds[i]
		d.ID = r.take(r.uvarint())
		if n := r.uvarint(); n > 0 {
			organization = r.take(n - 1)
		}
		d.Organization = organization
		d.Endpoint = r.endpoint()
		event, attempts := r.uvarint(), r.uvarint()
		d.Due = r.time()
		if r.failed || event >= uint64(len(events)) || attempts > math.MaxInt32 {
			r.fail()
			return nil
		}
		d.Event, d.Attempts = &events[event], int(attempts)
	}
	return ds
}

func (r *reader) endpoint() string {
	n := r.uvarint()
	if n > 0 {
		return r.take(n - 1)
	}
	var u uuid.UUID
	copy(u[:], r.take(uint64(len(u))))
	return u.String()
}
