package sender

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// spanAttempt is the span of an attempt.
const spanAttempt = "attempt"

// startSpan begins the span of an attempt of d, if d's event is traced and the
// span sampled, and returns where a request of that attempt stands: in the span,
// else where the event's producer stood.
func (s *Sender) startSpan(d *core.Delivery, began time.Time) (core.Span, *core.TraceContext) {
	parent := d.Event.TraceContext()
	if parent == nil || s.tracer == nil {
		return nil, parent
	}
	span := s.tracer.Start(spanAttempt, core.SpanClient, parent, began)
	if span == nil {
		return nil, parent
	}
	return span, span.Context()
}

// endSpan ends the span of an attempt. Of the endpoint's URL it tells scheme,
// host and port: consumers keep tokens in the rest.
func endSpan(span core.Span, v *verdict, res *egress.Result, t *egress.Target, at time.Time) {
	row := &v.row
	attributes := []slog.Attr{
		slog.String("http.request.method", "POST"),
		slog.String("messaging.message.id", row.Event),
		slog.String("sealpost.organization", v.delivery.Organization), slog.String("sealpost.endpoint", row.Endpoint),
		slog.String("sealpost.delivery", row.Delivery), slog.String("sealpost.event_type", row.EventType),
		slog.Int("sealpost.attempt", row.Number), slog.String("sealpost.outcome", string(v.outcome)),
		slog.Bool("sealpost.connection_reused", res.Reused),
		slog.Float64("sealpost.dns_seconds", res.DNS.Seconds()), slog.Float64("sealpost.connect_seconds", res.Connect.Seconds()),
		slog.Float64("sealpost.tls_seconds", res.TLS.Seconds()), slog.Float64("sealpost.first_byte_seconds", res.FirstByte.Seconds()),
	}
	if t != nil {
		scheme, _, _ := strings.Cut(t.Origin(), ":")
		host, port := t.HostPort()
		attributes = append(attributes, slog.String("url.scheme", scheme), slog.String("server.address", host))
		if n, err := strconv.Atoi(port); err == nil {
			attributes = append(attributes, slog.Int("server.port", n))
		}
	}
	if row.ResponseStatus != 0 {
		attributes = append(attributes, slog.Int("http.response.status_code", row.ResponseStatus))
	}
	if row.Number > 1 {
		attributes = append(attributes, slog.Int("http.request.resend_count", row.Number-1))
	}
	if id := v.delivery.Event.RequestID(); id != "" {
		attributes = append(attributes, slog.String("sealpost.request_id", id))
	}
	span.End(at, string(row.Reason), attributes...)
}

// appendTrace appends the headers of W3C Trace Context.
func appendTrace(dst []byte, t *core.TraceContext) []byte {
	if t == nil {
		return dst
	}
	dst = append(dst, core.HeaderTraceParent+": "...)
	dst = append(t.AppendParent(dst), "\r\n"...)
	if t.State == "" {
		return dst
	}
	dst = append(dst, core.HeaderTraceState+": "...)
	dst = append(dst, t.State...)
	return append(dst, "\r\n"...)
}

// observe puts a value into a histogram, with the id of the trace as its exemplar
// if the trace is sampled: else nobody could find it.
func observe(histogram prometheus.Observer, value float64, t *core.TraceContext) {
	if h, ok := histogram.(prometheus.ExemplarObserver); ok && t != nil && t.Sampled() {
		h.ObserveWithExemplar(value, prometheus.Labels{"trace_id": t.ID()})
		return
	}
	histogram.Observe(value)
}

// traceID returns the id of a trace for logs, "" if there is none.
func traceID(t *core.TraceContext) string {
	if t == nil {
		return ""
	}
	return t.ID()
}
