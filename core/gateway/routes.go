package gateway

import (
	"errors"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// unmatched is the route label of what reached no operation.
const unmatched = "unmatched"

var errStoreBudget = errors.New("the store did not answer within the request's budget")

// operation is one method of a path.
type operation struct {
	name   string // method and pattern; a metric label
	method string
	scope  core.Scope
	handle func(*Server, *exchange) error
	tally  *tally
}

// route is a path. A segment `{id}` stands for an endpoint's id, another one in
// braces for the id of something else, and a path has one of these at most.
type route struct {
	pattern    string
	segments   []string
	allow      string // the methods, for 405
	operations []*operation
}

// table lists the API. The paths that matter for throughput stand first.
func (s *Server) table() []*route {
	return []*route{
		newRoute("/api/v1/events",
			post(core.ScopePublish, (*Server).postEvent)),
		newRoute("/api/v1/events/batch",
			post(core.ScopePublish, (*Server).postBatch)),
		newRoute("/api/v1/events/{event}",
			get(core.ScopeRead, (*Server).getEvent)),
		newRoute("/api/v1/webhooks",
			get(core.ScopeRead, (*Server).listEndpoints), post(core.ScopeAdmin, (*Server).createEndpoint)),
		newRoute("/api/v1/webhooks/{id}",
			get(core.ScopeRead, (*Server).getEndpoint),
			&operation{method: fasthttp.MethodPatch, scope: core.ScopeAdmin, handle: (*Server).patchEndpoint},
			&operation{method: fasthttp.MethodDelete, scope: core.ScopeAdmin, handle: (*Server).deleteEndpoint}),
		newRoute("/api/v1/webhooks/{id}/rotate-secret",
			post(core.ScopeAdmin, (*Server).rotateSecret)),
		newRoute("/api/v1/webhooks/{id}/test",
			post(core.ScopeAdmin, (*Server).testEndpoint)),
		newRoute("/api/v1/webhooks/{id}/deliveries",
			get(core.ScopeRead, (*Server).listDeliveries)),
		newRoute("/api/v1/webhooks/{id}/deliveries/{delivery}/replay",
			post(core.ScopeAdmin, (*Server).replayDelivery)),
		newRoute("/api/v1/webhooks/{id}/dead-letters",
			get(core.ScopeRead, (*Server).listDeadLetters),
			&operation{method: fasthttp.MethodDelete, scope: core.ScopeAdmin, handle: (*Server).clearDeadLetters}),
		newRoute("/api/v1/webhooks/{id}/dead-letters/replay",
			post(core.ScopeAdmin, (*Server).replayDeadLetters)),
		newRoute("/api/v1/webhooks/{id}/recover",
			post(core.ScopeAdmin, (*Server).startRecovery)),
		newRoute("/api/v1/webhooks/{id}/recover/{job}",
			get(core.ScopeRead, (*Server).getRecovery)),
		newRoute("/api/v1/event-types",
			get(core.ScopeRead, (*Server).listEventTypes)),
	}
}

func get(scope core.Scope, handle func(*Server, *exchange) error) *operation {
	return &operation{method: fasthttp.MethodGet, scope: scope, handle: handle}
}

func post(scope core.Scope, handle func(*Server, *exchange) error) *operation {
	return &operation{method: fasthttp.MethodPost, scope: scope, handle: handle}
}

func newRoute(pattern string, operations ...*operation) *route {
	r := &route{pattern: pattern, segments: strings.Split(pattern, "/")[1:], operations: operations}
	methods := make([]string, len(operations))
	for i, o := range operations {
		o.name = o.method + " " + pattern
		methods[i] = o.method
	}
	r.allow = strings.Join(methods, ", ")
	return r
}

// match finds the route of the request. The path is compared as it was sent:
// no spelling of a path but its plain one exists.
func (s *Server) match(x *exchange) bool {
	path := x.ctx.URI().PathOriginal()
	for _, r := range s.routes {
		if id, item, ok := r.match(path); ok {
			x.route, x.endpoint, x.item = r, string(id), string(item)
			return true
		}
	}
	return false
}

// match compares path segment by segment and returns what stands for `{id}` and for
// another segment in braces.
func (r *route) match(path []byte) (id, item []byte, ok bool) {
	for i, want := range r.segments {
		if len(path) == 0 || path[0] != '/' {
			return nil, nil, false
		}
		path = path[1:]
		n := 0
		for n < len(path) && path[n] != '/' {
			n++
		}
		segment := path[:n]
		path = path[n:]
		switch {
		case want == "{id}" && n > 0:
			id = segment
		case want[0] == '{' && n > 0:
			item = segment
		case string(segment) != want:
			return nil, nil, false
		}
		if i == len(r.segments)-1 {
			return id, item, len(path) == 0
		}
	}
	return nil, nil, false
}

// find returns the operation of a method, or nil.
func (r *route) find(method []byte) *operation {
	for _, o := range r.operations {
		if string(method) == o.method {
			return o
		}
	}
	return nil
}

// ref names the endpoint of the path. A malformed id answers like one that
// never was, and asks nobody.
func (x *exchange) ref() (core.EndpointRef, error) {
	if !core.ValidEndpointID(x.endpoint) {
		return core.EndpointRef{}, core.NotFound("webhook")
	}
	return core.EndpointRef{Organization: x.key.Organization, ID: x.endpoint}, nil
}
