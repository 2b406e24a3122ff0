package trace

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// kept is an exporter that keeps what it gets. exportFunc, where set, is asked
// first; its error ends the call.
type kept struct {
	exportFunc func(context.Context) error

	mu    sync.Mutex
	spans []sdk.ReadOnlySpan
}

func (k *kept) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if k.exportFunc != nil {
		if err := k.exportFunc(ctx); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spans = append(k.spans, spans...)
	return nil
}

func (*kept) Shutdown(context.Context) error { return nil }

// fixture is a tracer that runs until end, which returns what it logged.
type fixture struct {
	*Tracer
	registry *prometheus.Registry
	end      func() string
}

func start(t *testing.T, exporter sdk.SpanExporter, flushTime time.Duration) *fixture {
	t.Helper()
	var logs bytes.Buffer // read when the tracer has ended
	registry := prometheus.NewPedanticRegistry()
	tracer, err := New(Options{
		Service: "sealpost-test", Exporter: exporter, FlushTime: flushTime, Registerer: registry,
		Logger: slog.New(slog.NewTextHandler(&logs, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tracer.Run(ctx) }()
	end := sync.OnceValue(func() string {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		return logs.String()
	})
	t.Cleanup(func() { end() })
	return &fixture{Tracer: tracer, registry: registry, end: end}
}

// counts fails the test unless so many spans were exported, failed, dropped.
func (f *fixture) counts(t *testing.T, exported, failed, dropped string) {
	t.Helper()
	want := `# HELP sealpost_trace_spans_total Spans that ended, by result: exported, failed (the collector did not take them) or dropped (too many were waiting).
# TYPE sealpost_trace_spans_total counter
sealpost_trace_spans_total{result="dropped"} ` + dropped + `
sealpost_trace_spans_total{result="exported"} ` + exported + `
sealpost_trace_spans_total{result="failed"} ` + failed + "\n"
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

var testParent = &core.TraceContext{TraceID: [16]byte{0xab}, SpanID: [8]byte{0xcd}, Flags: core.TraceSampled, State: "rojo=1"}

func TestSpan(t *testing.T) {
	exporter := new(kept)
	f := start(t, exporter, 0)
	began := time.Date(2026, 4, 27, 17, 42, 17, 0, time.UTC)
	other := &core.TraceContext{TraceID: [16]byte{1}, SpanID: [8]byte{2}, Flags: core.TraceSampled}
	s := f.Start("attempt", core.SpanClient, testParent, began, testParent, other)
	c := s.Context()
	if c.TraceID != testParent.TraceID || c.SpanID == testParent.SpanID || c.SpanID == [8]byte{} || !c.Sampled() || c.State != "rojo=1" {
		t.Errorf("the span stands at %+v", c)
	}
	s.End(began.Add(time.Second), "timeout", slog.String("s", "text"), slog.Int("i", 3), slog.Float64("f", .5), slog.Bool("b", true))
	f.Start("never ended", core.SpanInternal, testParent, began)
	root := f.Start("accept", core.SpanServer, nil, began)
	root.End(began, "")
	f.end()

	if len(exporter.spans) != 2 {
		t.Fatalf("%d spans, want 2", len(exporter.spans))
	}
	got := exporter.spans[0]
	attributes := make(map[string]string)
	for _, a := range got.Attributes() {
		attributes[string(a.Key)] = a.Value.Type().String() + " " + a.Value.String()
	}
	want := map[string]string{"s": "STRING text", "i": "INT64 3", "f": "FLOAT64 0.5", "b": "BOOL true", "error.type": "STRING timeout"}
	if diff := cmp.Diff(want, attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if got.Name() != "attempt" || got.SpanKind().String() != "client" || !got.StartTime().Equal(began) || got.EndTime().Sub(began) != time.Second ||
		got.Status().Code != codes.Error || got.Parent().SpanID() != testParent.SpanID || !got.Parent().IsRemote() {
		t.Errorf("span %+v", got)
	}
	if l := got.Links(); len(l) != 2 || l[0].SpanContext.SpanID() != testParent.SpanID || l[1].SpanContext.TraceID() != other.TraceID {
		t.Errorf("links %+v", l)
	}
	if got := exporter.spans[1]; got.Parent().IsValid() || got.SpanKind().String() != "server" || got.Status().Code != codes.Unset || got.SpanContext().TraceID() != root.Context().TraceID {
		t.Errorf("root %+v", got)
	}
	for key, want := range map[attribute.Key]string{"service.name": "sealpost-test", "service.version": core.Version} {
		if v, _ := exporter.spans[0].Resource().Set().Value(key); v.String() != want {
			t.Errorf("%s = %q, want %q", key, v.String(), want)
		}
	}
	f.counts(t, "2", "0", "0")
}

func TestSampling(t *testing.T) {
	unsampled := *testParent
	unsampled.Flags = 0
	for _, tt := range []struct {
		sampler, arg       string
		root, child, other bool // of nothing, of a sampled one, of one that is not
	}{
		{"", "", true, true, false},
		{"parentbased_traceidratio", "0", false, true, false},
		{"always_on", "", true, true, true},
		{"always_off", "", false, false, false},
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", tt.sampler)
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", tt.arg)
		f := start(t, new(kept), 0)
		for parent, want := range map[*core.TraceContext]bool{nil: tt.root, testParent: tt.child, &unsampled: tt.other} {
			if got := f.Start("accept", core.SpanServer, parent, time.Now()) != nil; got != want {
				t.Errorf("%q %q samples a child of %+v: %t, want %t", tt.sampler, tt.arg, parent, got, want)
			}
		}
		f.end()
	}
}

// A collector that does not answer costs the spans that exceed the queue, never
// the work, and an end in time.
func TestQueueIsBounded(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
	exporter := &kept{exportFunc: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	f := start(t, exporter, 10*time.Millisecond)
	for range 25 {
		f.Start("attempt", core.SpanClient, testParent, time.Now()).End(time.Now(), "")
	}
	logs := f.end()
	f.counts(t, "0", "10", "15")
	if n := len(exporter.spans); n != 0 {
		t.Errorf("%d spans came through", n)
	}
	if !strings.Contains(logs, "spans were not exported") || !strings.Contains(logs, "context canceled") {
		t.Errorf("the log says %q", logs)
	}
}

// A flush at the end exports everything that waits, in as many batches as it
// takes.
func TestRunFlushes(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7")
	exporter := new(kept)
	f := start(t, exporter, 0)
	for range 50 {
		f.Start("attempt", core.SpanClient, testParent, time.Now()).End(time.Now(), "")
	}
	if logs := f.end(); logs != "" || len(exporter.spans) != 50 {
		t.Errorf("%d spans of 50; log %q", len(exporter.spans), logs)
	}
	f.counts(t, "50", "0", "0")
}

// TestOverHTTP exports as the environment says: path, headers and compression
// are OpenTelemetry's affair, so one look at each is enough.
func TestOverHTTP(t *testing.T) {
	got := make(chan *collector.ExportTraceServiceRequest, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		request := new(collector.ExportTraceServiceRequest)
		if err == nil {
			err = proto.Unmarshal(body, request)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Team") != "blue" {
			t.Errorf("%s %s %v: %v", r.Method, r.URL, r.Header, err)
		}
		got <- request
	}))
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
	t.Setenv("OTEL_SERVICE_NAME", "hooks")
	if origin, ok, err := Configured(); origin != server.URL || !ok || err != nil {
		t.Fatalf("Configured = %q, %t, %v", origin, ok, err)
	}
	f := start(t, nil, 0)
	f.Start("accept", core.SpanServer, testParent, time.Now()).End(time.Now(), "")
	f.end()
	spans := (<-got).ResourceSpans
	if len(spans) != 1 || len(spans[0].ScopeSpans) != 1 || spans[0].ScopeSpans[0].Scope.Name != scope {
		t.Fatalf("%+v", spans)
	}
	for _, a := range spans[0].Resource.Attributes {
		if a.Key == "service.name" && a.Value.GetStringValue() != "hooks" {
			t.Errorf("service.name = %q", a.Value.GetStringValue())
		}
	}
	if s := spans[0].ScopeSpans[0].Spans[0]; !bytes.Equal(s.TraceId, testParent.TraceID[:]) || !bytes.Equal(s.ParentSpanId, testParent.SpanID[:]) {
		t.Errorf("span %+v", s)
	}
	f.counts(t, "1", "0", "0")
}

func TestConfigured(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, tt := range []struct {
		name    string
		env     map[string]string
		origin  string
		refused string // the variable
	}{
		{name: "nothing set"},
		{name: "endpoint", env: map[string]string{endpoint: "http://127.0.0.1:4318"}, origin: "http://127.0.0.1:4318"},
		{name: "path and user stay unsaid", env: map[string]string{endpoint: "https://user:secret@example.com/otlp?key=1"}, origin: "https://example.com"},
		{name: "endpoint of traces", env: map[string]string{endpoint: "nonsense", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:1/v1/traces"}, origin: "http://a:1"},
		{name: "disabled", env: map[string]string{endpoint: "http://a:1", "OTEL_SDK_DISABLED": "True"}},
		{name: "no exporter", env: map[string]string{endpoint: "http://a:1", "OTEL_TRACES_EXPORTER": "none"}},
		{name: "otlp", env: map[string]string{endpoint: "http://a:1", "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, origin: "http://a:1"},
		{name: "another exporter", env: map[string]string{endpoint: "http://a:1", "OTEL_TRACES_EXPORTER": "zipkin"}, refused: "OTEL_TRACES_EXPORTER"},
		{name: "grpc", env: map[string]string{endpoint: "http://a:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, refused: "OTEL_EXPORTER_OTLP_PROTOCOL"},
		{name: "grpc for traces", env: map[string]string{endpoint: "http://a:1", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, refused: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"},
		{name: "no URL", env: map[string]string{endpoint: "127.0.0.1:4318"}, refused: endpoint},
		{name: "no host", env: map[string]string{endpoint: "http:///v1"}, refused: endpoint},
		{name: "ratio", env: map[string]string{endpoint: "http://a:1", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}, origin: "http://a:1"},
		{name: "ratio above 1", env: map[string]string{endpoint: "http://a:1", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"}, refused: "OTEL_TRACES_SAMPLER_ARG"},
		{name: "unknown sampler", env: map[string]string{endpoint: "http://a:1", "OTEL_TRACES_SAMPLER": "jaeger_remote"}, refused: "OTEL_TRACES_SAMPLER"},
		{name: "queue", env: map[string]string{endpoint: "http://a:1", "OTEL_BSP_MAX_QUEUE_SIZE": "0"}, refused: "OTEL_BSP_MAX_QUEUE_SIZE"},
		{name: "queue too large", env: map[string]string{endpoint: "http://a:1", "OTEL_BSP_MAX_QUEUE_SIZE": "65537"}, refused: "OTEL_BSP_MAX_QUEUE_SIZE"},
		{name: "mistakes of what is off", env: map[string]string{"OTEL_TRACES_SAMPLER": "nonsense"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			origin, ok, err := Configured()
			if origin != tt.origin || ok != (tt.origin != "") || (err != nil) != (tt.refused != "") {
				t.Errorf("Configured = %q, %t, %v", origin, ok, err)
			}
			if err != nil && !strings.HasPrefix(err.Error(), tt.refused+": ") {
				t.Errorf("%v does not begin with %s", err, tt.refused)
			}
		})
	}
}
