package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/sealpost/sealpost/core"
)

// scope is what OpenTelemetry calls the instrumentation scope of our spans.
const scope = "github.com/sealpost/sealpost"

// FlushTime is how long Run takes at most to export what waits when it is ended.
const FlushTime = 3 * time.Second

// Options configure a Tracer.
type Options struct {
	Service    string                // service.name, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise
	Exporter   sdk.SpanExporter      // nil: OTLP over HTTP
	FlushTime  time.Duration         // 0: FlushTime
	Registerer prometheus.Registerer // nil: metrics are kept but not registered
	Logger     *slog.Logger          // nil: slog.Default()
}

// Tracer makes spans. It is a core.Tracer, safe for concurrent use.
type Tracer struct {
	provider  *sdk.TracerProvider
	tracer    otel.Tracer
	abort     context.CancelFunc
	flushTime time.Duration
}

var _ core.Tracer = (*Tracer)(nil)

// New returns a Tracer that is configured by OpenTelemetry's environment
// variables, of which Configured has found no mistake. It starts a goroutine,
// which Run ends, and makes no connection yet.
func New(o Options) (*Tracer, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.FlushTime == 0 {
		o.FlushTime = FlushTime
	}
	queue, err := queueSize()
	if err != nil {
		return nil, err
	}
	described, err := resource.New(context.Background(),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithAttributes(attribute.String("service.name", o.Service), attribute.String("service.version", core.Version)),
		resource.WithFromEnv(), // last: it wins
	)
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("trace: describe this process: %w", err)
	}
	if o.Exporter == nil {
		if o.Exporter, err = otlptracehttp.New(context.Background()); err != nil {
			return nil, fmt.Errorf("trace: %w", err)
		}
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	aborted, abort := context.WithCancel(context.Background())
	held := new(atomic.Int64)
	batches := sdk.NewBatchSpanProcessor(
		&counted{SpanExporter: o.Exporter, held: held, metrics: m, log: o.Logger, aborted: aborted},
		sdk.WithMaxQueueSize(queue))
	provider := sdk.NewTracerProvider(sdk.WithResource(described),
		sdk.WithSpanProcessor(&bound{SpanProcessor: batches, max: int64(queue), held: held, dropped: m.dropped}))
	return &Tracer{
		provider: provider, tracer: provider.Tracer(scope, otel.WithInstrumentationVersion(core.Version)),
		abort: abort, flushTime: o.FlushTime,
	}, nil
}

// Run waits until ctx ends and exports what waits then, for at most
// Options.FlushTime. End what makes spans first.
func (t *Tracer) Run(ctx context.Context) error {
	<-ctx.Done()
	defer t.abort()
	defer time.AfterFunc(t.flushTime, t.abort).Stop()
	if err := t.provider.Shutdown(context.Background()); err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	return nil
}

// Start begins a span, see core.Tracer.
func (t *Tracer) Start(name string, kind core.SpanKind, parent *core.TraceContext, start time.Time, links ...*core.TraceContext) core.Span {
	ctx := context.Background()
	if parent != nil {
		ctx = otel.ContextWithRemoteSpanContext(ctx, outside(parent))
	}
	options := []otel.SpanStartOption{otel.WithSpanKind(kindOf(kind)), otel.WithTimestamp(start)}
	if len(links) > 0 {
		linked := make([]otel.Link, len(links))
		for i, l := range links {
			linked[i].SpanContext = outside(l)
		}
		options = append(options, otel.WithLinks(linked...))
	}
	_, made := t.tracer.Start(ctx, name, options...)
	if !made.SpanContext().IsSampled() {
		return nil
	}
	return &span{span: made, context: inside(made.SpanContext())}
}

func kindOf(kind core.SpanKind) otel.SpanKind {
	switch kind {
	case core.SpanServer:
		return otel.SpanKindServer
	case core.SpanClient:
		return otel.SpanKindClient
	default:
		return otel.SpanKindInternal
	}
}

// outside returns a trace context as OpenTelemetry has it.
func outside(t *core.TraceContext) otel.SpanContext {
	state, err := otel.ParseTraceState(t.State)
	if err != nil {
		state = otel.TraceState{} // it judges a little more strictly than we do
	}
	return otel.NewSpanContext(otel.SpanContextConfig{
		TraceID: t.TraceID, SpanID: t.SpanID, TraceFlags: otel.TraceFlags(t.Flags), TraceState: state, Remote: true,
	})
}

// inside is the reverse.
func inside(c otel.SpanContext) core.TraceContext {
	return core.TraceContext{
		TraceID: c.TraceID(), SpanID: c.SpanID(), Flags: byte(c.TraceFlags()) & (core.TraceSampled | core.TraceRandom),
		State: c.TraceState().String(),
	}
}
