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

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/trace/tracetest"
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
		store, queue, tracer := newStubStore(), &stubQueue{}, new(tracetest.Tracer)
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
		spans := tracer.All()
		if len(spans) != 1 { // the flush of the first request has nothing to say to anybody
			t.Fatalf("%d spans, want 1", len(spans))
		}
		s := spans[0]
		want := []*core.TraceContext{origins[3].Trace, origins[4].Trace}
		if s.Name != spanFlush || s.Kind != core.SpanInternal || s.Parent != want[0] || !slices.Equal(s.Links, want) || s.Failure != "" || !s.Ended {
			t.Errorf("span %+v", s)
		}
		attributes := map[string]string{"sealpost.requests": "4", "sealpost.organizations": "1", "messaging.batch.message_count": "4", "sealpost.parked": "0"}
		if diff := cmp.Diff(attributes, s.Attributes); diff != "" {
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
			spans = tracer.All()
			if s := spans[len(spans)-1]; s.Failure != string(core.CodeUnavailable) || len(s.Links) != 1 {
				t.Errorf("%s fails: span %+v", name, s)
			}
		}
		if n := len(tracer.All()); n != 3 {
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
		Store: store, Queue: &stubQueue{}, Backlog: &stubBacklog{}, Logger: slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
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
