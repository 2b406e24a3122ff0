package frame

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"

	"github.com/sealpost/sealpost/core"
)

// Decode returns the deliveries of a frame. They alias b or a buffer of
// their own: b must not change afterwards. Every error is an ErrUndecodable.
func Decode(b []byte) ([]core.Delivery, error) {
	if len(b) < header {
		return nil, undecodable("frame of %d bytes", len(b))
	}
	if b[0] != version || b[1]&^flagCompressed != 0 {
		return nil, undecodable("frame version %d, flags %#x", b[0], b[1])
	}
	body := b[header:]
	if b[1]&flagCompressed != 0 {
		n, err := s2.DecodedLen(body)
		if err != nil || n > MaxBody {
			return nil, undecodable("compressed body of %d bytes: %v", n, err)
		}
		if body, err = s2.Decode(make([]byte, n), body); err != nil {
			return nil, undecodable("body: %v", err)
		}
	}
	if len(body) > MaxBody {
		return nil, undecodable("body of %d bytes", len(body))
	}
	if checksum(body) != binary.LittleEndian.Uint32(b[2:]) {
		return nil, undecodable("checksum differs")
	}
	return decodeBody(body)
}

func undecodable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUndecodable, fmt.Sprintf(format, args...))
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
	if n > MaxDeliveries || n > uint64((len(r.bytes)-r.at)/size) {
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

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.bytes[r.at:])
	if n <= 0 {
		r.fail()
		return 0
	}
	r.at += n
	return v
}

func (r *reader) time() time.Time {
	ms := r.varint()
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// ids reads the two columns of ids: set gets each, accepted tells when its event
// was accepted, in ms.
func (r *reader) ids(prefix string, n int, accepted func(i int) int64, set func(i int, id string)) {
	heads := reader{bytes: r.bytes, text: r.text, at: r.at}
	for range n { // to where the second column begins
		if r.uvarint() == 0 {
			r.varint()
		}
	}
	for i := 0; i < n && !r.failed; i++ {
		if length := heads.uvarint(); length > 0 {
			set(i, r.take(length-1))
			continue
		}
		ms := accepted(i) + heads.varint()
		random := r.take(uint64(len([16]byte{}) - idTimeSize))
		if ms < 0 || ms >= 1<<(8*idTimeSize) || r.failed {
			r.fail()
			return
		}
		var raw [16]byte
		binary.BigEndian.PutUint64(raw[:], uint64(ms)<<16)
		copy(raw[idTimeSize:], random)
		set(i, core.UnpackID(prefix, raw))
	}
}

// unlessSame reads a string, or a 0 that stands for the one before.
func (r *reader) unlessSame(before string) string {
	if n := r.uvarint(); n > 0 {
		return r.take(n - 1)
	}
	return before
}

// events reads the table of events, whose bytes stand one after the other in
// bodies and fill it.
func (r *reader) events(bodies []byte) []core.Event {
	events := make([]core.Event, r.count(minEventSize))
	accepted := int64(0)
	for i := range events {
		accepted += r.varint()
		events[i].AcceptedAt = time.UnixMilli(accepted).UTC()
	}
	same := ""
	for i := range events {
		same = r.unlessSame(same)
		events[i].Type = same
	}
	for i := range events {
		n := r.uvarint()
		if n > uint64(len(bodies)) {
			r.fail()
			return nil
		}
		events[i].Body, bodies = bodies[:n:n], bodies[n:]
	}
	if len(bodies) != 0 {
		r.fail()
	}
	r.origins(events)
	r.ages(events)
	r.ids(core.EventIDPrefix, len(events),
		func(i int) int64 { return events[i].AcceptedAt.UnixMilli() },
		func(i int, id string) { events[i].ID = id })
	return events
}

func (r *reader) deliveries(events []core.Event) []core.Delivery {
	ds := make([]core.Delivery, r.count(minDeliverySize))
	event := uint64(0)
	for i := range ds {
		next := r.uvarint()
		event += next
		if next > 1 || event >= uint64(len(events)) {
			r.fail()
			return nil
		}
		ds[i].Event = &events[event]
	}
	same := ""
	for i := range ds {
		same = r.unlessSame(same)
		ds[i].Organization = same
	}
	same = ""
	for i := range ds {
		same = r.endpoint(same)
		ds[i].Endpoint = same
	}
	for i := range ds {
		attempts := r.uvarint()
		if attempts > math.MaxInt32 {
			r.fail()
			return nil
		}
		ds[i].Attempts = int(attempts)
	}
	for i := range ds {
		ds[i].Due = r.time()
	}
	r.ids(core.DeliveryIDPrefix, len(ds),
		func(i int) int64 { return ds[i].Event.AcceptedAt.UnixMilli() },
		func(i int, id string) { ds[i].ID = id })
	return ds
}

// endpoint reads an endpoint's id.
func (r *reader) endpoint(before string) string {
	switch n := r.uvarint(); n {
	case 0:
		return before
	case 1:
		var u uuid.UUID
		copy(u[:], r.take(uint64(len(u))))
		return u.String()
	default:
		return r.take(n - 2)
	}
}
