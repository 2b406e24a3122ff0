package gateway

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
	"github.com/sealpost/sealpost/core/trace/tracetest"
)

const (
	producerTrace  = "0af7651916cd43dd8448eb211c80319c"
	producerParent = "00-" + producerTrace + "-b7ad6b7169203331-01"
)

func parentOf(t *testing.T, header string) *core.TraceContext {
	t.Helper()
	c, ok := core.ParseTraceParent([]byte(header))
	if !ok {
		t.Fatalf("%q is no traceparent", header)
	}
	return &c
}

// Without a tracer the producer's trace is passed on as it is, and its own
// request id with it.
func TestOriginOfEvents(t *testing.T) {
	t.Parallel()
	f := setup(t)
	withState := parentOf(t, producerParent)
	withState.State = "rojo=1,congo=2"
	tests := []struct {
		name    string
		headers []string
		want    *core.Origin
	}{
		{name: "nothing to follow"},
		{name: "traceparent", headers: []string{"traceparent", producerParent}, want: &core.Origin{Trace: parentOf(t, producerParent)}},
		{name: "tracestate too", headers: []string{"Traceparent", producerParent, "Tracestate", "rojo=1, congo=2"}, want: &core.Origin{Trace: withState}},
		{name: "bad tracestate", headers: []string{"traceparent", producerParent, "tracestate", "ROJO=1"}, want: &core.Origin{Trace: parentOf(t, producerParent)}},
		{name: "bad traceparent", headers: []string{"traceparent", producerParent + "0", "tracestate", "rojo=1"}},
		{name: "tracestate alone", headers: []string{"tracestate", "rojo=1"}},
		{name: "request id", headers: []string{"X-Request-Id", "mine"}, want: &core.Origin{RequestID: "mine"}},
		{name: "bad request id", headers: []string{"X-Request-Id", "not mine"}},
		{name: "both", headers: []string{"X-Request-Id", "mine", "traceparent", producerParent}, want: &core.Origin{RequestID: "mine", Trace: parentOf(t, producerParent)}},
	}
	for _, tt := range tests {
		f.call("POST", "/api/v1/events", goodEvent, tt.headers...).want(202, "")
		if diff := cmp.Diff(tt.want, f.publisher.last(t).Origin); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		f.call("POST", "/api/v1/events/batch", goodEvent+"\n"+goodEvent, append(tt.headers, "Content-Type", "application/x-ndjson")...).want(202, "")
		if diff := cmp.Diff(tt.want, f.publisher.last(t).Origin); diff != "" {
			t.Errorf("%s, batch (-want +got):\n%s", tt.name, diff)
		}
	}
	// Two of them cannot both be right.
	c := f.dial()
	if _, err := c.Write([]byte("POST /api/v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + f.key +
		"\r\ntraceparent: " + producerParent + "\r\ntraceparent: " + producerParent + "\r\nContent-Length: " + "42" + "\r\n\r\n" + goodEvent + strings.Repeat(" ", 42-len(goodEvent)))); err != nil {
		t.Fatal(err)
	}
	if got := readText(t, c); !strings.HasPrefix(got, "HTTP/1.1 202") || f.publisher.last(t).Origin != nil {
		t.Errorf("two traceparents: %.100s, origin %+v", got, f.publisher.last(t).Origin)
	}
}

func TestAcceptSpan(t *testing.T) {
	t.Parallel()
	tracer := new(tracetest.Tracer)
	f := setup(t, func(o *Options) { o.Tracer = tracer })
	tests := []struct {
		name, path, body string
		headers          []string
		status           int
		code             core.Code
		failure, events  string
	}{
		{name: "accepted", path: "/api/v1/events", body: goodEvent, headers: []string{"traceparent", producerParent, "tracestate", "rojo=1"}, status: 202, events: "1"},
		{name: "a trace of its own", path: "/api/v1/events", body: goodEvent, status: 202, events: "1"},
		{name: "batch", path: "/api/v1/events/batch", body: "[" + goodEvent + "," + goodEvent + "]", status: 202, events: "2"},
		{name: "the caller's mistake", path: "/api/v1/events", body: "{", status: 400, code: core.CodeInvalidJSON, events: "1"},
		{name: "not confirmed", path: "/api/v1/events", body: goodEvent, status: 503, code: core.CodeUnavailable, failure: "unavailable", events: "1"},
	}
	for i, tt := range tests {
		f.publisher.publishFunc = nil
		if tt.status == 503 {
			f.publisher.publishFunc = func(*publish.Request) ([]byte, error) { return nil, core.Unavailable("not confirmed", nil) }
		}
		a := f.call("POST", tt.path, tt.body, append(tt.headers, "X-Request-Id", "mine")...).want(tt.status, tt.code)
		span := tracer.All()[i]
		if span.Name != spanAccept || span.Kind != core.SpanServer || !span.Ended || span.Failure != tt.failure || span.Finish.Before(span.Begin) {
			t.Errorf("%s: span %+v", tt.name, span)
		}
		if (len(tt.headers) > 0) != (span.Parent != nil) || span.Parent != nil && (span.Parent.ID() != producerTrace || span.Parent.State != "rojo=1") {
			t.Errorf("%s: parent %+v", tt.name, span.Parent)
		}
		want := map[string]string{
			"http.request.method": "POST", "http.route": tt.path, "http.response.status_code": a.Status[:3], "sealpost.request_id": "mine",
			"sealpost.organization": "acme", "messaging.batch.message_count": tt.events,
		}
		if tt.code != "" {
			want["sealpost.error"] = string(tt.code)
		}
		if diff := cmp.Diff(want, span.Attributes); diff != "" {
			t.Errorf("%s: attributes (-want +got):\n%s", tt.name, diff)
		}
		if o := f.publisher.last(t).Origin; o.Trace != &span.Self || o.RequestID != "mine" {
			t.Errorf("%s: the events' origin is %+v, not the span", tt.name, o)
		}
	}
	f.call("GET", "/api/v1/event-types", "").want(200, "")
	f.call("POST", "/api/v1/events", goodEvent, "Authorization", "Bearer nonsense").want(401, core.CodeUnauthorized)
	if n := len(tracer.All()); n != len(tests) {
		t.Errorf("%d spans for %d requests to publish", n, len(tests))
	}

	f.publisher.publishFunc = nil
	tracer.Drop = true
	f.call("POST", "/api/v1/events", goodEvent, "traceparent", producerParent).want(202, "")
	if o := f.publisher.last(t).Origin; o == nil || string(o.Trace.AppendParent(nil)) != producerParent {
		t.Errorf("not sampled: the events' origin is %+v, not the producer", o)
	}
}

// readText reads a connection to its end.
func readText(t *testing.T, c net.Conn) string {
	t.Helper()
	raw, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Every request has a line at debug, and every change of an endpoint one at info.
func TestRequestsAreLogged(t *testing.T) {
	t.Parallel()
	logs := new(lockedBuffer)
	f := setup(t, func(o *Options) {
		o.Logger = slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	f.call("POST", "/api/v1/events?secret=1", goodEvent, "X-Request-Id", "first", "traceparent", producerParent).want(202, "")
	f.call("POST", "/api/v1/events", "{", "X-Request-Id", "second").want(400, core.CodeInvalidJSON)
	f.call("GET", "/nowhere", "", "X-Request-Id", "third").want(404, core.CodeNotFound)
	var e struct{ ID string }
	f.call("POST", "/api/v1/webhooks", `{"url":"https://example.com/?token=secret","events":["call.qualified"]}`, "X-Request-Id", "created").want(201, "").decode(&e)
	f.call("PATCH", "/api/v1/webhooks/"+e.ID, `{"description":"new"}`, "X-Request-Id", "changed").want(200, "")
	f.call("POST", "/api/v1/webhooks/"+e.ID+"/rotate-secret", "", "X-Request-Id", "rotated").want(200, "")
	f.call("DELETE", "/api/v1/webhooks/"+e.ID, "", "X-Request-Id", "deleted").want(200, "")

	type line struct {
		Level, Msg, Route, Code, Organization, Endpoint string
		Status, Events                                  int
		RequestID                                       string `json:"request_id"`
		TraceID                                         string `json:"trace_id"`
	}
	requests, changes := make(map[string]line), make(map[string]line)
	for text := range strings.Lines(logs.String()) {
		if strings.Contains(text, "secret=") || strings.Contains(text, "token") || strings.Contains(text, "nowhere") || strings.Contains(text, f.key) {
			t.Errorf("the log tells more than it should: %s", text)
		}
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		switch {
		case l.Msg == "request":
			requests[l.RequestID] = l
		case l.Endpoint != "":
			changes[l.RequestID] = l
		}
	}
	for id, want := range map[string]line{
		"first":  {Route: "POST /api/v1/events", Status: 202, Events: 1, Organization: "acme", TraceID: producerTrace},
		"second": {Route: "POST /api/v1/events", Status: 400, Events: 1, Organization: "acme", Code: "invalid_json"},
		"third":  {Route: unmatched, Status: 404, Code: "not_found"},
	} {
		want.Level, want.Msg, want.RequestID = "DEBUG", "request", id
		if diff := cmp.Diff(want, requests[id]); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
	}
	for id, msg := range map[string]string{
		"created": "endpoint created", "changed": "endpoint changed", "rotated": "signing secret rotated", "deleted": "endpoint deleted",
	} {
		want := line{Level: "INFO", Msg: msg, Organization: "acme", Endpoint: e.ID, RequestID: id}
		if diff := cmp.Diff(want, changes[id]); diff != "" {
			t.Errorf("change (-want +got):\n%s", diff)
		}
	}
}

// TestDropEndsAPause: what waits for an endpoint that drops it is looked at at once,
// although the endpoint asked to be left alone.
func TestDropEndsAPause(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	until := time.Now().Add(time.Hour)
	_, err := f.store.Park(t.Context(), []core.Parking{{
		Endpoint: f.ref, Condition: core.Condition{State: core.StatePaused, Since: time.Now(), Until: until}, Deliveries: []core.Delivery{f.delivery(1)},
	}})
	f.must(err)
	claims, _, err := f.store.ClaimBacklogs(t.Context(), 10)
	f.must(err)
	if len(claims) != 0 {
		t.Fatalf("a paused endpoint is looked at: %+v", claims)
	}
	f.call("PATCH", f.item, `{"enabled":false,"on_disable":"drop"}`).want(200, "")
	claims, _, err = f.store.ClaimBacklogs(t.Context(), 10)
	f.must(err)
	if len(claims) != 1 || claims[0].Condition != (core.Condition{}) {
		t.Errorf("claimed %+v, want its backlog without a condition", claims)
	}
}
