// Package tracetest is a tracer for tests: it keeps the spans in memory.
package tracetest

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
)

// Tracer samples what it is told to and keeps the spans. It is safe for concurrent
// use.
type Tracer struct {
	Drop bool // nothing is sampled

	mu    sync.Mutex
	spans []*Span
}

// Span is one that was begun.
type Span struct {
	Name       string
	Kind       core.SpanKind
	Parent     *core.TraceContext
	Links      []*core.TraceContext
	Self       core.TraceContext
	Begin      time.Time
	Finish     time.Time
	Ended      bool
	Failure    string
	Attributes map[string]string
}

// Start implements core.Tracer.
func (s *Tracer) Start(name string, kind core.SpanKind, parent *core.TraceContext, start time.Time, links ...*core.TraceContext) core.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Drop {
		return nil
	}
	span := &Span{Name: name, Kind: kind, Parent: parent, Links: slices.Clone(links), Begin: start}
	span.Self = core.TraceContext{TraceID: [16]byte{1}, Flags: core.TraceSampled}
	if parent != nil {
		span.Self.TraceID, span.Self.State = parent.TraceID, parent.State
	}
	span.Self.SpanID = [8]byte{7: byte(len(s.spans) + 1)}
	s.spans = append(s.spans, span)
	return span
}

// Context implements core.Span.
func (s *Span) Context() *core.TraceContext { return &s.Self }

// End implements core.Span.
func (s *Span) End(at time.Time, failure string, attributes ...slog.Attr) {
	s.Finish, s.Ended, s.Failure, s.Attributes = at, true, failure, make(map[string]string)
	for _, a := range attributes {
		s.Attributes[a.Key] = a.Value.String()
	}
}

// All returns the spans that were begun.
func (s *Tracer) All() []*Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.spans)
}
