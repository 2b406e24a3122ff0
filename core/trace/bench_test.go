package trace

import (
	"context"
	"log/slog"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sealpost/sealpost/core"
)

// nowhere drops what it is to export.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                        { return nil }

// BenchmarkSpan measures a span with the attributes of an attempt: one that is
// kept, encoding and sending aside, and one that the sampler does not want.
func BenchmarkSpan(b *testing.B) {
	for name, sampler := range map[string]string{"sampled": "always_on", "not-sampled": "always_off"} {
		b.Run(name, func(b *testing.B) {
			b.Setenv("OTEL_TRACES_SAMPLER", sampler)
			tracer, err := New(Options{Service: "bench", Exporter: nowhere{}})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- tracer.Run(ctx) }()
			parent := &core.TraceContext{TraceID: [16]byte{1}, SpanID: [8]byte{2}, Flags: core.TraceSampled}
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				span := tracer.Start("attempt", core.SpanClient, parent, now)
				if span == nil {
					continue
				}
				span.End(now, "",
					slog.String("http.request.method", "POST"), slog.String("messaging.message.id", "evt_1"),
					slog.String("sealpost.organization", "acme"), slog.String("sealpost.endpoint", "e"), slog.String("sealpost.delivery", "d"),
					slog.String("sealpost.event_type", "lead.created"), slog.Int("sealpost.attempt", 1), slog.String("sealpost.outcome", "delivered"),
					slog.Bool("sealpost.connection_reused", true), slog.Float64("sealpost.dns_seconds", 0), slog.Float64("sealpost.connect_seconds", 0),
					slog.Float64("sealpost.tls_seconds", 0), slog.Float64("sealpost.first_byte_seconds", 0), slog.String("url.scheme", "https"),
					slog.String("server.address", "example.com"), slog.Int("server.port", 443), slog.Int("http.response.status_code", 204))
			}
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}
