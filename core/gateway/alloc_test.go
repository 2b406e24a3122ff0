package gateway

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
	"github.com/sealpost/sealpost/core/trial"
)

// sample is an event of about 1 KB.
func sample(id string) []byte {
	return fmt.Appendf(nil, `{%s"type":"call.qualified","data":{"caller":"+43 1 234567","score":0.87,"tags":["a","b"],"note":"%s"}}`,
		id, strings.Repeat("lorem ipsum dolor ", 50))
}

// An event costs one allocation to parse: its frozen body. An id costs its copy.
func TestParseAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	rules := &eventRules{types: testRules().types, maxPayload: DefaultMaxPayload}
	for name, tt := range map[string]struct {
		body   []byte
		budget float64
	}{
		"plain":   {sample(""), 1},
		"with id": {sample(`"id":"my-event",`), 2},
	} {
		var s scanner
		var item publish.Item
		got := testing.AllocsPerRun(200, func() { item = s.parseEvent(tt.body, rules, testTime) })
		if item.Err != nil {
			t.Fatal(item.Err)
		}
		if got > tt.budget {
			t.Errorf("%s: %v allocations, budget %v", name, got, tt.budget)
		}
	}
}

type instantPublisher struct{ answer []byte }

func (p *instantPublisher) Publish(*publish.Request) ([]byte, error) { return p.answer, nil }
func (*instantPublisher) Reject(core.Code, int)                      {}

// newHandler returns a server that is not serving, and a prepared request.
func newHandler(tb testing.TB, body []byte) (*Server, *fasthttp.RequestCtx) {
	store := newStubStore()
	s, err := New(Options{
		Listen: "127.0.0.1:0", Store: store, Keys: store, Publisher: &instantPublisher{[]byte(`{"id":"evt_1","deliveries":1}`)},
		Tester: &trial.Trier{}, Keyring: testKeyring(tb), CanonicalURL: func(raw string) (string, error) { return raw, nil },
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.listener.Close() })
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("/api/v1/events")
	ctx.Request.Header.Set("Authorization", "Bearer "+store.addKey("acme", core.ScopePublish))
	ctx.Request.SetBodyStream(&endless{body: body}, len(body))
	return s, ctx
}

// endless gives the same body again and again.
type endless struct {
	body []byte
	pos  int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.body[e.pos:])
	if e.pos += n; e.pos == len(e.body) {
		e.pos = 0
		return n, io.EOF
	}
	return n, nil
}

// A whole accepted request, without the network: request id, header, key, body,
// request and metrics.
func TestRequestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s, ctx := newHandler(t, sample(""))
	s.handle(ctx) // looks up the key
	const budget = 8
	got := testing.AllocsPerRun(200, func() {
		ctx.Response.Reset()
		s.handle(ctx)
	})
	if ctx.Response.StatusCode() != 202 {
		t.Fatalf("status %d: %s", ctx.Response.StatusCode(), ctx.Response.Body())
	}
	if got > budget {
		t.Errorf("%v allocations, budget %v", got, budget)
	}
}

func BenchmarkPostEvent(b *testing.B) {
	body := sample("")
	s, ctx := newHandler(b, body)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		s.handle(ctx)
	}
}

// BenchmarkPostTracedEvent is the same with a traceparent that is passed on.
func BenchmarkPostTracedEvent(b *testing.B) {
	body := sample("")
	s, ctx := newHandler(b, body)
	ctx.Request.Header.Set(core.HeaderTraceParent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		s.handle(ctx)
	}
}

func BenchmarkParseArray(b *testing.B) {
	rules := &eventRules{types: testRules().types, maxPayload: DefaultMaxPayload}
	body := []byte(`[` + strings.Repeat(string(sample(""))+`,`, 99) + string(sample("")) + `]`)
	var s scanner
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.parseArray(body, rules, testTime); err != nil {
			b.Fatal(err)
		}
	}
}
