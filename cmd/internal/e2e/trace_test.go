package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	producerTrace  = "0af7651916cd43dd8448eb211c80319c"
	producerSpan   = "b7ad6b7169203331"
	producerParent = "00-" + producerTrace + "-" + producerSpan + "-01"
)

// spanCollector is a collector of traces: it takes OTLP over HTTP and keeps the
// spans, with the name of the service that made them.
type spanCollector struct {
	t      *testing.T
	server *httptest.Server

	mu    sync.Mutex
	spans []collectedSpan
	raw   []byte // everything that came
}

type collectedSpan struct {
	*otlp.Span
	service string
}

func newSpanCollector(t *testing.T) *spanCollector {
	t.Helper()
	c := &spanCollector{t: t}
	c.server = httptest.NewServer(c)
	t.Cleanup(c.server.Close)
	return c
}

// ServeHTTP is OTLP's one route.
func (c *spanCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	request := new(collector.ExportTraceServiceRequest)
	if err == nil {
		err = proto.Unmarshal(body, request)
	}
	if err != nil || r.Method != "POST" || r.URL.Path != "/v1/traces" {
		c.t.Errorf("the collector got %s %s: %v", r.Method, r.URL, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw = append(c.raw, body...)
	for _, of := range request.ResourceSpans {
		service := ""
		for _, a := range of.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, collectedSpan{s, service})
			}
		}
	}
}

// named returns the spans of a name that came so far, oldest first.
func (c *spanCollector) named(name string) []collectedSpan {
	c.mu.Lock()
	defer c.mu.Unlock()
	var spans []collectedSpan
	for _, s := range c.spans {
		if s.Name == name {
			spans = append(spans, s)
		}
	}
	slices.SortFunc(spans, func(a, b collectedSpan) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	return spans
}

// settings are those that send a system's spans here.
func (c *spanCollector) settings() map[string]string {
	return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.server.URL, "OTEL_BSP_SCHEDULE_DELAY": "50"}
}

// attribute returns what a span says under a key.
func (s *collectedSpan) attribute(key string) any {
	for _, a := range s.Attributes {
		if a.Key == key {
			switch {
			case a.Value.GetStringValue() != "":
				return a.Value.GetStringValue()
			default:
				return a.Value.GetIntValue()
			}
		}
	}
	return nil
}

// TestOneTrace: what a producer's request sets off is one trace, its own, through
// both programs, over a retry, and on into the receiver.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	spans := newSpanCollector(t)
	s := newSystem(t, spans.settings())
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(503, 204))
	e := acme.subscribe(r.url()+"/T0KEN?key=secretquery", "lead.created")
	id := acme.publish(1, "lead.created", `"secretpayload"`, "traceparent", producerParent, "tracestate", "rojo=1", "X-Request-Id", "mine")
	requests := r.await(2)
	s.awaitIdle()
	for program, histograms := range map[string][]string{
		"gateway": {"sealpost_gateway_request_duration_seconds"},
		"sender":  {"sealpost_sender_attempt_duration_seconds", "sealpost_sender_delivery_latency_seconds"},
	} {
		text := s.openMetrics(program)
		for _, name := range histograms {
			if !regexp.MustCompile(`(?m)^` + name + `_bucket\{.*\} \d+ # \{trace_id="` + producerTrace + `"\} `).MatchString(text) {
				t.Errorf("%s of %s has no exemplar", name, program)
			}
		}
	}
	for _, p := range []*process{s.gateway, s.sender} {
		if status := p.stop(); status != 0 { // which exports what waits
			t.Errorf("%s ends with status %d", p.name, status)
		}
	}

	accepts, flushes, attempts := spans.named("accept"), spans.named("flush"), spans.named("attempt")
	if len(accepts) != 1 || len(flushes) != 1 || len(attempts) != 2 {
		t.Fatalf("%d accepts, %d flushes, %d attempts; want 1, 1, 2", len(accepts), len(flushes), len(attempts))
	}
	accept, flush := accepts[0], flushes[0]
	for _, span := range append(attempts, accept, flush) {
		if hex.EncodeToString(span.TraceId) != producerTrace || span.TraceState != "rojo=1" || span.EndTimeUnixNano < span.StartTimeUnixNano {
			t.Errorf("%s is not in the producer's trace: %v", span.Name, span.Span)
		}
	}
	if hex.EncodeToString(accept.ParentSpanId) != producerSpan || accept.service != "sealpost-gateway" || accept.Kind != otlp.Span_SPAN_KIND_SERVER ||
		accept.attribute("sealpost.request_id") != "mine" || accept.attribute("http.response.status_code") != int64(202) {
		t.Errorf("accept: %s %v", accept.service, accept.Span)
	}
	if !bytes.Equal(flush.ParentSpanId, accept.SpanId) || len(flush.Links) != 1 || !bytes.Equal(flush.Links[0].SpanId, accept.SpanId) {
		t.Errorf("flush is not linked to accept: %v", flush.Span)
	}
	for i, attempt := range attempts {
		if !bytes.Equal(attempt.ParentSpanId, accept.SpanId) || attempt.service != "sealpost-sender" || attempt.Kind != otlp.Span_SPAN_KIND_CLIENT ||
			attempt.attribute("messaging.message.id") != id || attempt.attribute("sealpost.endpoint") != e.ID ||
			attempt.attribute("http.response.status_code") != int64([]int{503, 204}[i]) || attempt.attribute("sealpost.request_id") != "mine" {
			t.Errorf("attempt %d: %s %v", i+1, attempt.service, attempt.Span)
		}
		want := "00-" + producerTrace + "-" + hex.EncodeToString(attempt.SpanId) + "-"
		if got := requests[i].header.Get("traceparent"); !strings.HasPrefix(got, want) || requests[i].header.Get("tracestate") != "rojo=1" {
			t.Errorf("attempt %d tells its receiver %q, %q, want %s…", i+1, got, requests[i].header.Get("tracestate"), want)
		}
	}
	if attempts[0].Status.Code != otlp.Status_STATUS_CODE_ERROR || attempts[0].attribute("error.type") != "status_5xx" ||
		attempts[1].Status.GetCode() != otlp.Status_STATUS_CODE_UNSET || attempts[1].attribute("http.request.resend_count") != int64(1) {
		t.Errorf("attempts: %v, %v", attempts[0].Span, attempts[1].Span)
	}
	for _, secret := range []string{"secretpayload", "secretquery", "T0KEN", acme.key, e.SigningSecret} {
		if bytes.Contains(spans.raw, []byte(secret)) {
			t.Errorf("the spans tell %q", secret)
		}
	}
	if n := followed(t, s.sender, "attempt", "mine"); n != 2 {
		t.Errorf("%d lines of attempts can be followed to the request, want 2", n)
	}
	if n := followed(t, s.gateway, "event accepted", "mine"); n != 1 {
		t.Errorf("%d lines of accepted events can be followed to the request, want 1", n)
	}
}

// openMetrics returns a program's metrics in the format that has exemplars.
func (s *system) openMetrics(program string) string {
	s.t.Helper()
	request, err := http.NewRequest("GET", s.admin[program]+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(raw)
}

// followed counts the lines of a log that name the producer's request and trace.
func followed(t *testing.T, p *process, msg, requestID string) (n int) {
	t.Helper()
	for line := range strings.Lines(p.log()) {
		var record struct {
			Msg       string
			RequestID string `json:"request_id"`
			TraceID   string `json:"trace_id"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Errorf("%s writes a line that is no JSON record: %s", p.name, line)
		}
		if record.Msg == msg && record.RequestID == requestID && record.TraceID == producerTrace {
			n++
		}
	}
	return n
}

// TestTracePassesThrough: without a collector the receiver sees the producer's own
// headers, whatever the way of publishing.
func TestTracePassesThrough(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(503, 204))
	acme.subscribe(r.url(), "lead.created")
	const event = `{"type":"lead.created","data":1}`
	for i, publish := range []func(){
		func() { acme.publish(1, "lead.created", "1", "traceparent", producerParent, "tracestate", "rojo=1") },
		func() {
			acme.do(http.StatusAccepted, "POST", "/api/v1/events/batch", event+"\n"+event, "Content-Type", "application/x-ndjson", "traceparent", producerParent, "tracestate", "rojo=1")
		},
		func() {
			acme.do(http.StatusAccepted, "POST", "/api/v1/events/batch", "["+event+"]", "traceparent", producerParent, "tracestate", "rojo=1")
		},
	} {
		before := len(r.all())
		publish()
		for _, q := range r.await(before + []int{2, 2, 1}[i])[before:] { // the first one is repeated
			if q.header.Get("traceparent") != producerParent || q.header.Get("tracestate") != "rojo=1" {
				t.Errorf("publish %d: traceparent %q, tracestate %q", i, q.header.Get("traceparent"), q.header.Get("tracestate"))
			}
		}
	}
	before := len(r.all())
	acme.publish(1, "lead.created", "1", "traceparent", strings.ToUpper(producerParent), "tracestate", "rojo=1")
	acme.publish(1, "lead.created", "1")
	for _, q := range r.await(before + 2)[before:] {
		if q.header.Get("traceparent") != "" || q.header.Get("tracestate") != "" {
			t.Errorf("nothing to pass on, yet traceparent %q, tracestate %q", q.header.Get("traceparent"), q.header.Get("tracestate"))
		}
	}
}

// TestCollectorAway: a collector that is away, or hangs, keeps neither events nor
// an end waiting, and what was lost is counted.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	hang := newGate()
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); hang.wait() }))
	t.Cleanup(collector.Close)
	t.Cleanup(hang.release)
	s := newSystem(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_BSP_MAX_QUEUE_SIZE": "5", "SEALPOST_HIDE_TRACE": "true",
		"OTEL_BSP_EXPORT_TIMEOUT": "3600000", "OTEL_EXPORTER_OTLP_TIMEOUT": "3600000", // ms: nothing but the end of the program ends an export
	})
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	acme.subscribe(r.url(), "lead.created")
	for range 10 {
		acme.publish(1, "lead.created", "1")
	}
	for _, q := range r.await(10) {
		if q.header.Get("traceparent") != "" {
			t.Errorf("the receiver is told %q", q.header.Get("traceparent"))
		}
	}
	s.awaitIdle()
	if dropped := s.metric("sender", "sealpost_trace_spans_total", `result="dropped"`); dropped != 5 {
		t.Errorf("%v spans of the sender were dropped, want 5", dropped)
	}
	for _, p := range []*process{s.gateway, s.sender} {
		if status := p.stop(); status != 0 {
			t.Errorf("%s ends with status %d", p.name, status)
		}
	}
}

// TestRefusedTracing: what OpenTelemetry would quietly ignore ends the program
// with a line that names the variable.
func TestRefusedTracing(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "sender", map[string]string{
		"SEALPOST_MASTER_KEYS": newMasterKey(), "SEALPOST_ADMIN_LISTEN": "127.0.0.1:0", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
	}, "serve")
	if status := p.exited(); status != 2 || !strings.Contains(p.log(), "sender: OTEL_EXPORTER_OTLP_PROTOCOL: ") {
		t.Errorf("status %d: %s", status, p.log())
	}
}
