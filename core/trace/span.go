package trace

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/sealpost/sealpost/core"
)

// span is a sampled span.
type span struct {
	span    otel.Span
	context core.TraceContext
}

// Context returns what the steps that s causes have as their parent.
func (s *span) Context() *core.TraceContext { return &s.context }

// End ends the span, see core.Span.
func (s *span) End(at time.Time, failure string, attributes ...slog.Attr) {
	set := make([]attribute.KeyValue, 0, len(attributes)+1)
	for _, a := range attributes {
		set = append(set, keyValue(a))
	}
	if failure != "" {
		set = append(set, attribute.String("error.type", failure))
		s.span.SetStatus(codes.Error, failure)
	}
	s.span.SetAttributes(set...)
	s.span.End(otel.WithTimestamp(at))
}

func keyValue(a slog.Attr) attribute.KeyValue {
	switch v := a.Value; v.Kind() {
	case slog.KindBool:
		return attribute.Bool(a.Key, v.Bool())
	case slog.KindInt64:
		return attribute.Int64(a.Key, v.Int64())
	case slog.KindFloat64:
		return attribute.Float64(a.Key, v.Float64())
	default:
		return attribute.String(a.Key, v.String())
	}
}
