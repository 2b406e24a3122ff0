package publish

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// traceOf returns a trace context that n tells from others.
func traceOf(n byte, flags byte) *core.TraceContext {
	return &core.TraceContext{TraceID: [16]byte{15: n}, SpanID: [8]byte{7: n}, Flags: flags}
}

// A flush is a span in the trace of its first traced request, linked to all of
// them. Events carry the origin of their request.
func TestFlushSpan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue, tracer := newStubStore(), &stubQueue{}, new(stubTracer)
		store.subscribe("acme", "a", "call.qualified")
		release := make(chan struct{})
		var once sync.Once
		store.beginFunc = func(_ context.Context, organizations []string, rs []core.Reservation, _ core.Draws) ([]string, []core.ReservationState, error) {
			once.Do(func() { <-release }) // the others gather meanwhile
			return store.begin(organizations, rs)
		}
		p := start(t, Options{Store: store, Queue: queue, Tracer: tracer})
		var wg sync.WaitGroup
		publish := func(o *core.Origin) {
			r := single("", "{}")
			r.Origin = o
			wg.Go(func() { mustPublish(t, p, r) })
			synctest.Wait()
		}
		origins := []*core.Origin{nil, {Trace: traceOf(1, 0)}, {RequestID: "r"}, {Trace: traceOf(2, core.TraceSampled)}, {Trace: traceOf(3, core.TraceSampled)}}
		for _, o := range origins {
			publish(o)
		}
		close(release)
		wg.Wait()
		synctest.Wait()

		var got []*core.Origin
		for _, call := range queue.calls {
			for _, d := range call {
				got = append(got, d.Event.Origin)
			}
		}
		if diff := cmp.Diff(origins, got); diff != "" {
			t.Errorf("origins of the deliveries (-want +got):\n%s", diff)
		}
		spans := tracer.all()
		if len(spans) != 1 { // the flush of the first request has nothing to say to anybody
			t.Fatalf("%d spans, want 1", len(spans))
		}
		s := spans[0]
		want := []*core.TraceContext{origins[3].Trace, origins[4].Trace}
		if s.name != spanFlush || s.kind != core.SpanInternal || s.parent != want[0] || !slices.Equal(s.links, want) || s.failure != "" || !s.ended {
			t.Errorf("span %+v", s)
		}
		attributes := map[string]string{"sealpost.requests": "4", "sealpost.organizations": "1", "messaging.batch.message_count": "4"}
		if diff := cmp.Diff(attributes, s.attributes); diff != "" {
			t.Errorf("attributes (-want +got):\n%s", diff)
		}

		for name, fail := range map[string]func(){
			"begin": func() {
				store.beginFunc = func(context.Context, []string, []core.Reservation, core.Draws) ([]string, []core.ReservationState, error) {
					return nil, nil, errors.New("gone")
				}
			},
			"enqueue": func() {
				queue.enqueueFunc = func(context.Context, []core.Delivery) []error { return []error{errors.New("gone")} }
			},
		} {
			store.beginFunc, queue.enqueueFunc = nil, nil
			fail()
			r := single("", "{}")
			r.Origin = origins[3]
			if _, err := p.Publish(r); core.CodeOf(err) != core.CodeUnavailable {
				t.Errorf("%s: %v", name, err)
			}
			synctest.Wait()
			spans = tracer.all()
			if s := spans[len(spans)-1]; s.failure != string(core.CodeUnavailable) || len(s.links) != 1 {
				t.Errorf("%s fails: span %+v", name, s)
			}
		}
		if n := len(tracer.all()); n != 3 {
			t.Errorf("%d spans, want 3", n)
		}

		// However many requests there are, a span names no more than maxLinks.
		store.beginFunc, queue.enqueueFunc = nil, nil
		f := newFlush(p)
		for range maxLinks + 1 {
			f.waiters = append(f.waiters, &waiter{request: &Request{Origin: origins[3]}})
		}
		f.noteTraces()
		if n := len(f.traced.accepts); n != maxLinks {
			t.Errorf("%d links, want %d", n, maxLinks)
		}
	})
}

// At debug every accepted event is tied to its request.
func TestAcceptedEventsAreLogged(t *testing.T) {
	t.Parallel()
	store := newStubStore()
	store.subscribe("acme", "a", "call.qualified")
	var logs bytes.Buffer // read when the publisher has ended
	ctx, cancel := context.WithCancel(context.Background())
	p, err := New(Options{
		Store: store, Queue: &stubQueue{}, Logger: slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	r := single("mine", `{"secret":1}`)
	r.RequestID, r.Origin = "req-1", &core.Origin{Trace: traceOf(7, 0)}
	mustPublish(t, p, r)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	line := logs.String()
	for _, want := range []string{"event accepted", "organization=acme", "event=mine", "event_type=call.qualified", "deliveries=1", "request_id=req-1", "trace_id=00000000000000000000000000000007"} {
		if !strings.Contains(line, want) {
			t.Errorf("the log lacks %q: %s", want, line)
		}
	}
	if strings.Contains(line, "secret") {
		t.Errorf("the log tells the payload: %s", line)
	}
}

// stubTracer samples what it is told to and keeps the spans.
type stubTracer struct {
	drop bool // nothing is sampled

	mu    sync.Mutex
	spans []*stubSpan
}

type stubSpan struct {
	name       string
	kind       core.SpanKind
	parent     *core.TraceContext
	links      []*core.TraceContext
	context    core.TraceContext
	start, end time.Time
	ended      bool
	failure    string
	attributes map[string]string
}

func (s *stubTracer) Start(name string, kind core.SpanKind, parent *core.TraceContext, start time.Time, links ...*core.TraceContext) core.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drop {
		return nil
	}
	span := &stubSpan{name: name, kind: kind, parent: parent, links: slices.Clone(links), start: start}
	span.context = core.TraceContext{TraceID: [16]byte{1}, Flags: core.TraceSampled}
	if parent != nil {
		span.context.TraceID, span.context.State = parent.TraceID, parent.State
	}
	span.context.SpanID = [8]byte{7: byte(len(s.spans) + 1)}
	s.spans = append(s.spans, span)
	return span
}

func (s *stubSpan) Context() *core.TraceContext { return &s.context }

func (s *stubSpan) End(at time.Time, failure string, attributes ...slog.Attr) {
	s.end, s.ended, s.failure, s.attributes = at, true, failure, make(map[string]string)
	for _, a := range attributes {
		s.attributes[a.Key] = a.Value.String()
	}
}

// all returns the spans that were begun.
func (s *stubTracer) all() []*stubSpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.spans)
}
