package trace

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// What became of a span; the values of a metric's label.
const (
	resultExported = "exported"
	resultFailed   = "failed"
	resultDropped  = "dropped"
)

type metrics struct {
	exported, failed, dropped prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	spans := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealpost_trace_spans_total",
		Help: "Spans that ended, by result: exported, failed (the collector did not take them) or dropped (too many were waiting).",
	}, []string{"result"})
	if r != nil {
		if err := r.Register(spans); err != nil {
			return nil, fmt.Errorf("trace: register metrics: %w", err)
		}
	}
	return &metrics{
		exported: spans.WithLabelValues(resultExported),
		failed:   spans.WithLabelValues(resultFailed),
		dropped:  spans.WithLabelValues(resultDropped),
	}, nil
}

// bound keeps the spans that wait for their export below a number. OpenTelemetry's
// batches would do that too, but tell nobody what they dropped.
type bound struct {
	sdk.SpanProcessor // batches, with room for max
	max               int64
	held              *atomic.Int64
	dropped           prometheus.Counter
}

// OnEnd hands a span to the batches, or drops it.
func (b *bound) OnEnd(s sdk.ReadOnlySpan) {
	if b.held.Add(1) > b.max {
		b.held.Add(-1)
		b.dropped.Inc()
		return
	}
	b.SpanProcessor.OnEnd(s)
}

// counted is an exporter whose failures end here: counted and logged.
type counted struct {
	sdk.SpanExporter
	held    *atomic.Int64
	metrics *metrics
	log     *slog.Logger
	aborted context.Context // cuts off what is under way
}

// maxErrorLength bounds what is logged of an error, in bytes: it may quote the
// collector.
const maxErrorLength = 256

// ExportSpans exports a batch. Its error is always nil.
func (c *counted) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	defer c.held.Add(-int64(len(spans)))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.aborted, cancel)()
	err := c.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		c.metrics.exported.Add(float64(len(spans)))
		return nil
	}
	c.metrics.failed.Add(float64(len(spans)))
	text := err.Error()
	c.log.Warn("spans were not exported", "spans", len(spans), "error", text[:min(len(text), maxErrorLength)])
	return nil
}
