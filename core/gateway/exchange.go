package gateway

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

const jsonType = "application/json"

// exchange is one request and its answer. It is reused: nothing may hold it
// after the handler has returned.
type exchange struct {
	ctx       *fasthttp.RequestCtx
	id        string // request id
	chosen    bool   // by the caller
	start     time.Time
	route     *route     // nil: unknown path
	operation *operation // nil: unknown path or method
	endpoint  string     // the `{id}` of the path, if the route has one
	item      string     // the other segment in braces, if the route has one
	key       *core.APIKey
	keyWait   time.Duration // spent asking Redis for the key
	origin    *core.Origin  // of the events; nil: nothing to follow them by
	span      core.Span     // nil: not traced
	events    int           // in the body
	failure   core.Code     // of the answer; "": it is none

	scan  scanner
	body  []byte // buffer of readBody
	large bool   // body is lent by the server's largeBodies
	held  int64  // bytes counted in the server's body budget
}

// keepBody is how large a body buffer is kept for the next request, in bytes.
const keepBody = 64 << 10

// begin starts an exchange and settles its id.
func (s *Server) begin(ctx *fasthttp.RequestCtx) *exchange {
	x := s.exchanges.Get().(*exchange)
	x.ctx, x.start = ctx, s.o.Now()
	if given := ctx.Request.Header.Peek("X-Request-Id"); validRequestID(given) {
		x.id, x.chosen = string(given), true
	} else {
		x.id = newRequestID()
	}
	ctx.Response.Header.Set("X-Request-Id", x.id)
	return x
}

// end counts the exchange and gives back what it held.
func (s *Server) end(x *exchange) {
	now := s.o.Now()
	s.metrics.observe(x, now.Sub(x.start))
	x.endSpan(now)
	s.logRequest(x, now.Sub(x.start))
	s.bodies.give(x.held)
	body, scan := x.body, x.scan
	switch {
	case x.large:
		s.large.giveBack(body)
		body = nil
	case cap(body) > keepBody:
		body = nil
	}
	scan.reset(nil)
	*x = exchange{body: body[:0], scan: scan}
	s.exchanges.Put(x)
}

// handle is the outermost handler. fasthttp does not survive a panic, so none
// may pass here.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	x := s.begin(ctx)
	defer s.end(x)
	defer s.recover(x)
	if err := s.serve(x); err != nil {
		x.drain()
		s.fail(x, err)
	}
}

func (s *Server) recover(x *exchange) {
	if v := recover(); v != nil {
		x.ctx.SetConnectionClose() // whatever is left of the body
		s.fail(x, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
	}
}

// serve judges the request up to its scope and hands it to its operation.
func (s *Server) serve(x *exchange) error {
	if rule := misframed(&x.ctx.Request.Header); rule != "" {
		x.ctx.SetConnectionClose()
		return &core.Error{Code: core.CodeBadRequest, Detail: rule}
	}
	if !s.match(x) {
		return &core.Error{Code: core.CodeNotFound, Detail: "no such path"}
	}
	if x.operation = x.route.find(x.ctx.Method()); x.operation == nil {
		x.ctx.Response.Header.Set("Allow", x.route.allow)
		return &core.Error{Code: core.CodeMethodNotAllowed, Detail: "this path allows " + x.route.allow}
	}
	if err := s.authenticate(x); err != nil {
		return err
	}
	if !x.key.Allows(x.operation.scope) {
		return &core.Error{Code: core.CodeMissingScope, Detail: "the API key lacks the scope " + string(x.operation.scope)}
	}
	return x.operation.handle(s, x)
}

// misframed says what makes it doubtful where the request ends, "" if nothing does.
// fasthttp takes the one meaning, a proxy in front may have taken the other (request
// smuggling; RFC 9112, sections 5.2, 6.1 and 6.3).
func misframed(h *fasthttp.RequestHeader) string {
	const chunked = -1
	var length, coding bool
	for line := range bytes.Lines(h.RawHeaders()) {
		switch line[0] {
		case ' ', '\t':
			return "headers must not be folded"
		case 'c', 'C':
			length = length || names(line, "content-length:")
		case 't', 'T':
			coding = coding || names(line, "transfer-encoding:")
		}
	}
	switch {
	case coding && length:
		return "Content-Length and Transfer-Encoding contradict each other"
	case coding && h.ContentLength() != chunked:
		return "the only Transfer-Encoding is chunked"
	}
	return ""
}

// names reports whether a line of a head begins with a name and its colon.
func names(line []byte, name string) bool {
	return len(line) >= len(name) && strings.EqualFold(string(line[:len(name)]), name)
}

// routeName returns the route's label in logs.
func (x *exchange) routeName() string {
	if x.operation == nil {
		return unmatched
	}
	return x.operation.name
}

// storeContext bounds the calls to the store that one request makes. It does
// not end with the connection or with a graceful stop: a change that was begun
// is finished.
func (x *exchange) storeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), storeBudget, errStoreBudget)
}

// reply answers with a JSON body, and a line break for those who read it on a
// terminal.
func (x *exchange) reply(status int, body []byte) {
	x.ctx.SetStatusCode(status)
	x.ctx.Response.Header.SetContentType(jsonType)
	x.ctx.Response.AppendBody(body)
	x.ctx.Response.AppendBodyString("\n")
}

// replyJSON answers with v.
func (x *exchange) replyJSON(status int, v any) error {
	body, err := marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	x.reply(status, body)
	return nil
}
