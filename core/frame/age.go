package frame

import (
	"encoding/binary"
	"time"

	"github.com/sealpost/sealpost/core"
)

// appendAges appends the column of ages.
func appendAges(dst []byte, events []*core.Event) []byte {
	any := false
	for _, event := range events {
		any = any || event.MaxAge > 0
	}
	if !any {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	for _, event := range events {
		dst = binary.AppendUvarint(dst, uint64(max(event.MaxAge, 0)/time.Millisecond))
	}
	return dst
}

// ages reads the column of ages.
func (r *reader) ages(events []core.Event) {
	switch r.uvarint() {
	case 0:
		return
	case 1:
	default:
		r.fail()
		return
	}
	for i := range events {
		ms := r.uvarint()
		if ms > uint64(core.MaxMaxAge/time.Millisecond) {
			r.fail()
			return
		}
		events[i].MaxAge = time.Duration(ms) * time.Millisecond
	}
}
