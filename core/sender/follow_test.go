package sender

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/trace/tracetest"
)

func producerTrace(state string) *core.TraceContext {
	return &core.TraceContext{TraceID: [16]byte{0: 0xab, 15: 1}, SpanID: [8]byte{7: 0xcd}, Flags: core.TraceSampled, State: state}
}

const (
	producerParent = "00-ab000000000000000000000000000001-00000000000000cd-01"
	attemptParent  = "00-ab000000000000000000000000000001-0000000000000001-01"
)

// What a receiver is told of the trace: the attempt, or the producer when the
// attempt has no span of its own.
func TestTraceOfRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		tracer *tracetest.Tracer
		trace  *core.TraceContext
		hide   bool
		parent string
		state  string
	}{
		{name: "no trace"},
		{name: "no trace, traced", tracer: new(tracetest.Tracer)},
		{name: "not traced", trace: producerTrace("rojo=1"), parent: producerParent, state: "rojo=1"},
		{name: "not traced, no state", trace: producerTrace(""), parent: producerParent},
		{name: "traced", tracer: new(tracetest.Tracer), trace: producerTrace("rojo=1"), parent: attemptParent, state: "rojo=1"},
		{name: "not sampled", tracer: &tracetest.Tracer{Drop: true}, trace: producerTrace(""), parent: producerParent},
		{name: "hidden", tracer: new(tracetest.Tracer), trace: producerTrace("rojo=1"), hide: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, func(o *Options) {
					o.HideTrace = tt.hide
					if tt.tracer != nil {
						o.Tracer = tt.tracer
					}
				})
				ref := f.endpoint(1)
				b := f.bundle(ref)
				if tt.trace != nil {
					b.Deliveries[0].Event.Origin = &core.Origin{Trace: tt.trace}
				}
				if err := f.Handle(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				h := f.poster.all()[0].header
				if h.Get("Traceparent") != tt.parent || h.Get("Tracestate") != tt.state {
					t.Errorf("traceparent %q, tracestate %q; want %q, %q", h.Get("Traceparent"), h.Get("Tracestate"), tt.parent, tt.state)
				}
				spans := 0
				if tt.tracer != nil {
					spans = len(tt.tracer.All())
				}
				if want := tt.tracer != nil && tt.trace != nil && !tt.tracer.Drop; want != (spans == 1) {
					t.Errorf("%d spans", spans)
				}
			})
		})
	}
}

// Every attempt is a span of its own, a child of what the event brought along.
func TestAttemptSpans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tracer := new(tracetest.Tracer)
		var logs bytes.Buffer
		f := newFixture(t, func(o *Options) {
			o.Tracer = tracer
			o.Logger = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		f.poster.answer = func(request) egress.Result {
			if len(f.poster.all()) == 1 {
				return egress.Result{Status: 500, Connect: 30 * time.Millisecond, FirstByte: 200 * time.Millisecond}
			}
			return egress.Result{Reason: core.ReasonTimeout, Reused: true}
		}
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.URL = "https://user.example.com:8443/T0KEN?key=secret" })
		b := f.bundle(ref)
		b.Deliveries[0].Event.Origin = &core.Origin{RequestID: "req-1", Trace: producerTrace("")}
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		for _, d := range f.queue.retries() {
			if d.Event.Origin != b.Deliveries[0].Event.Origin {
				t.Error("the retry lost its origin")
			}
			again := f.bundle(ref)
			again.Deliveries[0] = d
			if err := f.Handle(t.Context(), again); err != nil {
				t.Fatal(err)
			}
		}
		spans := tracer.All()
		if len(spans) != 2 {
			t.Fatalf("%d spans, want 2", len(spans))
		}
		d := b.Deliveries[0]
		for i, s := range spans {
			if s.Name != spanAttempt || s.Kind != core.SpanClient || s.Parent != d.Event.Origin.Trace || !s.Ended {
				t.Errorf("span %+v", s)
			}
			want := map[string]string{
				"http.request.method": "POST", "messaging.message.id": d.Event.ID, "sealpost.organization": testOrg, "sealpost.endpoint": ref.ID,
				"sealpost.delivery": d.ID, "sealpost.event_type": d.Event.Type, "sealpost.attempt": fmt.Sprint(i + 1), "sealpost.outcome": "retry",
				"url.scheme": "https", "server.address": "user.example.com", "server.port": "8443", "sealpost.request_id": "req-1",
				"sealpost.dns_seconds": "0", "sealpost.tls_seconds": "0",
			}
			failure := "status_5xx"
			if i == 0 {
				want["http.response.status_code"], want["sealpost.connection_reused"] = "500", "false"
				want["sealpost.connect_seconds"], want["sealpost.first_byte_seconds"] = "0.03", "0.2"
			} else {
				failure = "timeout"
				want["http.request.resend_count"], want["sealpost.connection_reused"] = "1", "true"
				want["sealpost.connect_seconds"], want["sealpost.first_byte_seconds"] = "0", "0"
			}
			if diff := cmp.Diff(want, s.Attributes); diff != "" || s.Failure != failure {
				t.Errorf("span %d failed by %q, want %q; attributes (-want +got):\n%s", i, s.Failure, failure, diff)
			}
		}
		attempts := 0
		for line := range strings.Lines(logs.String()) {
			if strings.Contains(line, "T0KEN") || strings.Contains(line, "secret") {
				t.Errorf("the log tells the URL: %s", line)
			}
			if strings.Contains(line, "msg=attempt") {
				attempts++
				if !strings.Contains(line, "request_id=req-1") || !strings.Contains(line, "trace_id=ab000000000000000000000000000001") {
					t.Errorf("the attempt cannot be followed: %s", line)
				}
			}
		}
		if got := exemplars(t, f.reg); fmt.Sprint(got) != "map[sealpost_sender_attempt_duration_seconds:ab000000000000000000000000000001]" {
			t.Errorf("exemplars %v", got)
		}
		if attempts != 2 {
			t.Errorf("%d lines for 2 attempts", attempts)
		}
	})
}

// exemplars returns the trace of the last exemplar of each histogram that has one.
func exemplars(t *testing.T, g prometheus.Gatherer) map[string]string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	traces := make(map[string]string)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, b := range m.GetHistogram().GetBucket() {
				for _, l := range b.GetExemplar().GetLabel() {
					traces[f.GetName()] = l.GetValue()
				}
			}
		}
	}
	return traces
}

// Only sampled traces leave exemplars.
func TestExemplars(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		unsampled := producerTrace("")
		unsampled.Flags = 0
		for _, origin := range []*core.Origin{nil, {RequestID: "mine"}, {Trace: unsampled}} {
			b := f.bundle(ref)
			b.Deliveries[0].Event.Origin = origin
			if err := f.Handle(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		if got := exemplars(t, f.reg); len(got) != 0 {
			t.Errorf("exemplars %v of what is not sampled", got)
		}
		b := f.bundle(ref)
		b.Deliveries[0].Event.Origin = &core.Origin{Trace: producerTrace("")}
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		const id = "ab000000000000000000000000000001"
		want := map[string]string{"sealpost_sender_attempt_duration_seconds": id, "sealpost_sender_delivery_latency_seconds": id}
		if diff := cmp.Diff(want, exemplars(t, f.reg)); diff != "" {
			t.Errorf("exemplars (-want +got):\n%s", diff)
		}
	})
}

// What was never written is no attempt, and no span.
func TestNoSpanWithoutAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tracer := new(tracetest.Tracer)
		f := newFixture(t, func(o *Options) { o.Tracer = tracer })
		ref := f.endpoint(1)
		f.poster.connect = func(*egress.Target) { f.store.delete(ref); time.Sleep(time.Second) }
		b := f.bundle(ref)
		b.Deliveries[0].Event.Origin = &core.Origin{Trace: producerTrace("")}
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		for _, s := range tracer.All() {
			if s.Ended {
				t.Errorf("span %+v", s)
			}
		}
		if n := len(f.poster.all()); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}
