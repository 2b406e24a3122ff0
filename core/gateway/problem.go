package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

const (
	problemType    = "application/problem+json"
	problemTypeURI = "https://sealpost.dev/errors/" // and the code
	detailInternal = "internal error"
)

// statusOf returns the HTTP status and the title of each code; ok is false for
// a code that is not in core.Codes.
func statusOf(code core.Code) (status int, title string, ok bool) {
	switch code {
	case core.CodeNotFound:
		return fasthttp.StatusNotFound, "Not found", true
	case core.CodeMethodNotAllowed:
		return fasthttp.StatusMethodNotAllowed, "Method not allowed", true
	case core.CodeUnauthorized:
		return fasthttp.StatusUnauthorized, "No valid API key", true
	case core.CodeMissingScope:
		return fasthttp.StatusForbidden, "The API key lacks a scope", true
	case core.CodeTooLarge:
		return fasthttp.StatusRequestEntityTooLarge, "Too large", true
	case core.CodeHeaderTooLarge:
		return fasthttp.StatusRequestHeaderFieldsTooLarge, "Request head too large", true
	case core.CodeBadRequest:
		return fasthttp.StatusBadRequest, "Bad request", true
	case core.CodeInvalidJSON:
		return fasthttp.StatusBadRequest, "Not the expected JSON", true
	case core.CodeInvalid:
		return fasthttp.StatusUnprocessableEntity, "A field breaks a rule", true
	case core.CodeIdempotencyMismatch:
		return fasthttp.StatusUnprocessableEntity, "Idempotency key used with another body", true
	case core.CodeInProgress:
		return fasthttp.StatusConflict, "Still in progress", true
	case core.CodeConflict:
		return fasthttp.StatusConflict, "Conflict", true
	case core.CodePayloadExpired:
		return fasthttp.StatusConflict, "No longer kept", true
	case core.CodeRateLimited:
		return fasthttp.StatusTooManyRequests, "Quota used up", true
	case core.CodeTimeout:
		return fasthttp.StatusRequestTimeout, "Request timeout", true
	case core.CodeUnavailable:
		return fasthttp.StatusServiceUnavailable, "Not confirmed", true
	case core.CodeInternal:
		return fasthttp.StatusInternalServerError, "Internal error", true
	}
	return fasthttp.StatusInternalServerError, "Internal error", false
}

// problem is the body of every error (RFC 9457).
type problem struct {
	Type      string            `json:"type"`
	Title     string            `json:"title"`
	Status    int               `json:"status"`
	Detail    string            `json:"detail"`
	Code      core.Code         `json:"code"`
	RequestID string            `json:"request_id"`
	Errors    []core.FieldError `json:"errors,omitempty"`
}

func newProblem(e *core.Error, requestID string) *problem {
	status, title, _ := statusOf(e.Code)
	return &problem{
		Type: problemTypeURI + string(e.Code), Title: title, Status: status, Detail: e.Detail,
		Code: e.Code, RequestID: requestID, Errors: e.Fields,
	}
}

func (p *problem) encode() []byte {
	body, err := marshal(p)
	if err != nil { // strings and numbers only: cannot happen
		return []byte(`{"type":"about:blank","title":"Internal error","status":500,"detail":"internal error","code":"internal"}`)
	}
	return body
}

// marshal is json.Marshal without escaping of `<`, `>` and `&`, which are
// common in URLs.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// asError returns what the caller is told about err. Nothing internal passes:
// an error without a code becomes CodeInternal with a fixed detail.
func asError(err error) *core.Error {
	var e *core.Error
	switch {
	case errors.As(err, &e):
		if _, _, ok := statusOf(e.Code); ok && e.Code != core.CodeInternal {
			return e
		}
	case errors.Is(err, context.DeadlineExceeded):
		return core.Unavailable("not confirmed in time", err)
	}
	return &core.Error{Code: core.CodeInternal, Detail: detailInternal, Err: err}
}

// fail answers with err.
func (s *Server) fail(x *exchange, err error) {
	e := asError(err)
	ctx := x.ctx
	x.failure = e.Code
	s.log(x, e)
	p := newProblem(e, x.id)
	ctx.Response.ResetBody()
	ctx.SetStatusCode(p.Status)
	ctx.Response.Header.SetContentType(problemType)
	if e.RetryAfter > 0 {
		seconds := int64((e.RetryAfter + time.Second - 1) / time.Second)
		ctx.Response.Header.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	ctx.SetBody(append(p.encode(), '\n'))
}

// log reports what operators have to know: our mistakes always, what could not
// be confirmed once a second (metrics count them all).
func (s *Server) log(x *exchange, e *core.Error) {
	switch {
	case e.Code == core.CodeInternal:
		s.o.Logger.Error("request failed", "route", x.routeName(), "request_id", x.id, "trace_id", x.traceID(), "error", e.Err)
	case e.Code == core.CodeUnavailable && s.complaint.allow(s.o.Now()):
		s.o.Logger.Warn("request not confirmed", "route", x.routeName(), "request_id", x.id, "trace_id", x.traceID(), "error", e.Error())
	}
}

// complaintLimit lets one log line pass a second.
type complaintLimit struct{ last atomic.Int64 }

func (l *complaintLimit) allow(now time.Time) bool {
	second := now.Unix()
	last := l.last.Load()
	return last != second && l.last.CompareAndSwap(last, second)
}

// protocolError answers what fasthttp could not read as a request.
func (s *Server) protocolError(ctx *fasthttp.RequestCtx, err error) {
	x := s.begin(ctx)
	defer s.end(x)
	s.fail(x, readError(err))
	ctx.SetConnectionClose()
}

// readError returns what a failure to read a request means.
func readError(err error) *core.Error {
	var head *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &head):
		return &core.Error{Code: core.CodeHeaderTooLarge, Detail: "request line and headers are limited to 8 KiB together", Err: err}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		return &core.Error{Code: core.CodeTooLarge, Detail: "the body is above the limit", Err: err}
	case errors.As(err, &network) && network.Timeout():
		return &core.Error{Code: core.CodeTimeout, Detail: "the request did not arrive within " + readTimeout.String(), Err: err}
	default:
		return &core.Error{Code: core.CodeBadRequest, Detail: "not a valid HTTP request", Err: err}
	}
}

// appendContentLength ends a response head and appends the body.
func appendContentLength(head, body []byte) []byte {
	head = append(head, "Content-Length: "...)
	head = strconv.AppendInt(head, int64(len(body)), 10)
	head = append(head, "\r\n\r\n"...)
	return append(head, body...)
}
