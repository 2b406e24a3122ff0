package frame

import (
	"encoding/binary"

	"github.com/sealpost/sealpost/core"
)

// How an event's origin stands in its column.
const (
	originNone = iota
	originSame // as that of the event before
	originNew
)

// traceSize is the part of a trace context that always stands, in bytes.
const traceSize = len(core.TraceContext{}.TraceID) + len(core.TraceContext{}.SpanID) + 1

// OriginSize returns roughly what an origin adds to a frame, in bytes.
func OriginSize(o *core.Origin) int {
	if o == nil {
		return 0
	}
	size := len(o.RequestID)
	if o.Trace != nil {
		size += traceSize + len(o.Trace.State)
	}
	return size
}

// appendOrigins appends the column of origins.
func appendOrigins(dst []byte, events []*core.Event) []byte {
	any := false
	for _, event := range events {
		any = any || event.Origin != nil
	}
	if !any {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	var before *core.Origin
	for _, event := range events {
		switch o := event.Origin; {
		case o == nil:
			dst = append(dst, originNone)
		case o == before:
			dst = append(dst, originSame)
		default:
			dst = appendOrigin(append(dst, originNew), o)
		}
		before = event.Origin
	}
	return dst
}

func appendOrigin(dst []byte, o *core.Origin) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(o.RequestID))), o.RequestID...)
	if o.Trace == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(o.Trace.State))+1)
	dst = append(dst, o.Trace.TraceID[:]...)
	dst = append(dst, o.Trace.SpanID[:]...)
	dst = append(dst, o.Trace.Flags)
	return append(dst, o.Trace.State...)
}

// origins reads the column of origins.
func (r *reader) origins(events []core.Event) {
	switch r.uvarint() {
	case 0:
		return
	case 1:
	default:
		r.fail()
		return
	}
	var before *core.Origin
	for i := range events {
		switch r.uvarint() {
		case originNone:
			before = nil
		case originSame:
			if before == nil {
				r.fail()
				return
			}
		case originNew:
			before = r.origin()
		default:
			r.fail()
			return
		}
		events[i].Origin = before
	}
}

func (r *reader) origin() *core.Origin {
	o := &core.Origin{RequestID: r.take(r.uvarint())}
	n := r.uvarint()
	if n == 0 {
		return o
	}
	o.Trace = new(core.TraceContext)
	copy(o.Trace.TraceID[:], r.take(uint64(len(o.Trace.TraceID))))
	copy(o.Trace.SpanID[:], r.take(uint64(len(o.Trace.SpanID))))
	if flags := r.take(1); !r.failed {
		o.Trace.Flags = flags[0]
	}
	o.Trace.State = r.take(n - 1)
	return o
}
