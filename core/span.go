package core

import (
	"log/slog"
	"time"
)

// SpanKind says which side of an exchange a span stands for.
type SpanKind int

// The kinds.
const (
	SpanInternal SpanKind = iota // work of our own
	SpanServer                   // a request that came
	SpanClient                   // a request that we make
)

// Tracer makes spans. Those who need none hold a nil Tracer.
type Tracer interface {
	// Start begins a span at start: a child of parent, or the first of a new
	// trace if that is nil. links are further spans that it has to do with. It
	// returns nil when the span is not sampled.
	Start(name string, kind SpanKind, parent *TraceContext, start time.Time, links ...*TraceContext) Span
}

// Span is one timed step of a trace. It belongs to one goroutine at a time. One
// that is not ended never was.
type Span interface {
	// Context is what the steps that this one causes have as their parent.
	Context() *TraceContext
	// End ends the span. failure is "" or says, in a word of a small set, why the
	// step failed. attributes have the names of OpenTelemetry's conventions where
	// it has them, else they begin with `sealpost.`; slog's kinds Bool, Int64,
	// Float64 and String are carried over.
	End(at time.Time, failure string, attributes ...slog.Attr)
}
