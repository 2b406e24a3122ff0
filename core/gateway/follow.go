package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// spanAccept is the span of a request to publish.
const spanAccept = "accept"

// follow notes by what the events of x can be followed, and begins the span of
// their acceptance.
func (s *Server) follow(x *exchange) {
	trace := traceContext(&x.ctx.Request.Header)
	if s.o.Tracer != nil {
		if x.span = s.o.Tracer.Start(spanAccept, core.SpanServer, trace, x.start); x.span != nil {
			trace = x.span.Context()
		}
	}
	if trace == nil && !x.chosen {
		return
	}
	x.origin = &core.Origin{Trace: trace}
	if x.chosen {
		x.origin.RequestID = x.id
	}
}

// traceContext returns the request's place in its caller's trace, nil if there is
// none. W3C Trace Context wants an unreadable traceparent to be ignored, and no
// tracestate to be read without one.
func traceContext(h *fasthttp.RequestHeader) *core.TraceContext {
	if len(h.Peek(core.HeaderTraceParent)) == 0 {
		return nil
	}
	parents := h.PeekAll(core.HeaderTraceParent)
	if len(parents) != 1 {
		return nil
	}
	t, ok := core.ParseTraceParent(parents[0])
	if !ok {
		return nil
	}
	t.State = core.ParseTraceState(h.PeekAll(core.HeaderTraceState))
	return &t
}

// endSpan ends the span of x if it has one.
func (x *exchange) endSpan(at time.Time) {
	if x.span == nil {
		return
	}
	attributes := []slog.Attr{
		slog.String("http.request.method", x.operation.method),
		slog.String("http.route", x.route.pattern),
		slog.Int("http.response.status_code", x.ctx.Response.StatusCode()),
		slog.String("sealpost.request_id", x.id),
		slog.String("sealpost.organization", x.key.Organization),
		slog.Int("messaging.batch.message_count", x.events),
	}
	failure := ""
	if x.failure != "" {
		attributes = append(attributes, slog.String("sealpost.error", string(x.failure)))
		if x.ctx.Response.StatusCode() >= fasthttp.StatusInternalServerError { // the others are the caller's mistakes
			failure = string(x.failure)
		}
	}
	x.span.End(at, failure, attributes...)
}

// traceID returns the id of the trace of x's events, or "".
func (x *exchange) traceID() string {
	if x.origin == nil || x.origin.Trace == nil {
		return ""
	}
	return x.origin.Trace.ID()
}

// observe puts a value into a histogram, with the id of the trace as its exemplar
// if the trace is sampled: else nobody could find it.
func (x *exchange) observe(histogram prometheus.Observer, value float64) {
	if h, ok := histogram.(prometheus.ExemplarObserver); ok && x.origin != nil && x.origin.Trace != nil && x.origin.Trace.Sampled() {
		h.ObserveWithExemplar(value, prometheus.Labels{"trace_id": x.traceID()})
		return
	}
	histogram.Observe(value)
}

// logRequest writes one line for the whole exchange. It holds neither path,
// query nor body.
func (s *Server) logRequest(x *exchange, took time.Duration) {
	if !s.o.Logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	organization, key := "", ""
	if x.key != nil {
		organization, key = x.key.Organization, x.key.ID
	}
	s.o.Logger.LogAttrs(context.Background(), slog.LevelDebug, "request",
		slog.String("route", x.routeName()), slog.Int("status", x.ctx.Response.StatusCode()), slog.String("code", string(x.failure)),
		slog.Duration("took", took), slog.Int("events", x.events), slog.String("organization", organization), slog.String("key", key),
		slog.String("request_id", x.id), slog.String("trace_id", x.traceID()))
}

// logChange tells of a change of an endpoint that is done, and who made it.
func (s *Server) logChange(x *exchange, what, endpoint string) {
	s.o.Logger.Info(what, "organization", x.key.Organization, "endpoint", endpoint, "key", x.key.ID, "request_id", x.id)
}
