package publish

import (
	"context"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/core"
)

// spanFlush is the span of a flush.
const spanFlush = "flush"

// maxLinks bounds the requests that the span of a flush names. It is what
// OpenTelemetry keeps unless told otherwise.
const maxLinks = 128

// traced is what the span of a flush will say.
type traced struct {
	accepts    []*core.TraceContext // sampled; at most maxLinks
	requests   int
	deliveries int       // handed to the queue or to backlogs
	parked     int       // of these, handed to backlogs
	failure    core.Code // "": everything was confirmed
}

// noteTraces keeps where the traced requests of the flush stand: an answered one
// is its caller's again.
func (f *flush) noteTraces() {
	f.traced.requests = len(f.waiters)
	if f.p.o.Tracer == nil {
		return
	}
	for _, w := range f.waiters {
		o := w.request.Origin
		if o != nil && o.Trace != nil && o.Trace.Sampled() && len(f.traced.accepts) < maxLinks {
			f.traced.accepts = append(f.traced.accepts, o.Trace)
		}
	}
}

// endTraces makes the span of a flush. It stands in the trace of the first
// request that is traced, and is linked to all of them.
func (f *flush) endTraces(start, end time.Time) {
	t := f.traced
	if len(t.accepts) > 0 {
		if span := f.p.o.Tracer.Start(spanFlush, core.SpanInternal, t.accepts[0], start, t.accepts...); span != nil {
			span.End(end, string(t.failure),
				slog.Int("sealpost.requests", t.requests), slog.Int("sealpost.organizations", len(f.organizations)),
				slog.Int("messaging.batch.message_count", t.deliveries), slog.Int("sealpost.parked", t.parked))
		}
	}
	clear(t.accepts)
	f.traced = traced{accepts: t.accepts[:0]}
}

// logAccepted ties an event to the request that brought it.
func (f *flush) logAccepted(w *waiter, out *outcome) {
	log := f.p.o.Logger
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	traceID := ""
	if t := out.event.TraceContext(); t != nil {
		traceID = t.ID()
	}
	log.LogAttrs(context.Background(), slog.LevelDebug, "event accepted",
		slog.String("organization", w.request.Organization), slog.String("event", out.event.ID), slog.String("event_type", out.event.Type),
		slog.Int("deliveries", out.deliveries), slog.String("request_id", w.request.RequestID), slog.String("trace_id", traceID))
}
