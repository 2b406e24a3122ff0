package gateway

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// maxDetail is far above what an error may repeat of a body, in bytes.
const maxDetail = 8 << 10

// answerable fails unless an error can be answered: with a code, with words, and
// without much of what the caller sent.
func answerable(t *testing.T, err error) {
	t.Helper()
	e := asError(err)
	if status, _, ok := statusOf(e.Code); !ok || status < 400 || status >= 500 || e.Detail == "" || len(e.Detail) > maxDetail || len(e.Fields) > maxFieldErrors {
		t.Fatalf("error %+v", e)
	}
}

// FuzzChange: a body about an endpoint is refused with an error that can be
// answered, or changes what it says and nothing else.
func FuzzChange(f *testing.F) {
	for _, body := range []string{
		`{}`, `[]`, ``, `{"url":"https://a.example.com/hook?a=1","events":["call.qualified"],"description":"\u00fc"}`,
		`{"enabled":false,"max_age":"1h","rate_limit":0.5,"max_in_flight":1,"ordering":"fifo","on_disable":"drop"}`,
		`{"max_age":null,"rate_limit":null,"max_in_flight":null,"ordering":null}`, `{"url":1,"events":{},"enabled":"true"}`,
		`{"max_in_flight":1.5,"rate_limit":1e999}`, `{"url":"a","url":"b"}`, `{"unknown":[[[]]]}`, "{\"description\":\"\xff\"}", `{"events":["*"]}`,
	} {
		f.Add([]byte(body))
	}
	s := &Server{catalogue: core.DefaultEventTypes()}
	s.o.CanonicalURL = func(raw string) (string, error) { return egress.CanonicalURL(raw, egress.URLPolicy{}) }
	f.Fuzz(func(t *testing.T, body []byte) {
		var x exchange
		form, err := x.parseForm(body, endpointMembers("enabled")...)
		if err != nil {
			answerable(t, err)
			return
		}
		c, err := s.readChange(form)
		if err != nil {
			answerable(t, err)
			return
		}
		var sent map[string]json.RawMessage
		if err := json.Unmarshal(body, &sent); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		for name, set := range map[string]bool{
			"url": c.url != nil, "events": c.events != nil, "description": c.description != nil, "enabled": c.enabled != nil, "max_age": c.maxAge != nil,
			"rate_limit": c.rateLimit != nil, "max_in_flight": c.maxInFlight != nil, "ordering": c.fifo != nil, "on_disable": c.drop != nil,
		} {
			if _, named := sent[name]; named != set {
				t.Fatalf("%s: sent %t, set %t", name, named, set)
			}
			delete(sent, name)
		}
		if len(sent) > 0 {
			t.Fatalf("%d unknown members were accepted", len(sent))
		}
		if c.url != nil {
			if again, err := s.o.CanonicalURL(*c.url); err != nil || again != *c.url {
				t.Fatalf("%q is not canonical: %q, %v", *c.url, again, err)
			}
		}
		var e core.Endpoint
		if err := c.apply(&e); err != nil {
			answerable(t, err)
			return
		}
		if e.RateLimit < 0 || e.RateLimit > core.MaxRateLimit || e.MaxInFlight < 0 || e.MaxInFlight > core.MaxMaxInFlight || e.MaxAge < 0 {
			t.Fatalf("out of bounds: %+v", e)
		}
	})
}

// FuzzReplayForm: what a replay names is as many different deliveries as it may name.
func FuzzReplayForm(f *testing.F) {
	id := core.NewDeliveryID(time.UnixMilli(1_764_000_000_000))
	for _, body := range []string{
		`{"deliveries":["` + id + `"]}`, `{"deliveries":["` + id + `","` + id + `"]}`, `{"deliveries":[]}`, `{"deliveries":[1]}`, `{"deliveries":"x"}`,
		`{"since":"2026-01-01T00:00:00Z","until":"2026-01-02T00:00:00+01:00"}`, `{"since":1}`, `{"since":"9999-12-31T23:59:60Z"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var x exchange
		form, err := x.parseForm(body, "deliveries", "since", "until")
		if err != nil {
			answerable(t, err)
			return
		}
		ids := form.deliveries()
		since, dated := form.instant("since")
		if err := form.err(); err != nil {
			answerable(t, err)
			return
		}
		seen := make(map[string]bool)
		for _, id := range ids {
			if seen[id] || !core.ValidDeliveryID(id) {
				t.Fatalf("accepted %q", ids)
			}
			seen[id] = true
		}
		if len(ids) > maxReplayed || form.has("deliveries") && len(ids) == 0 {
			t.Fatalf("%d deliveries", len(ids))
		}
		if dated {
			if again, err := time.Parse(time.RFC3339Nano, since.Format(time.RFC3339Nano)); err != nil || !again.Equal(since) {
				t.Fatalf("%v is read as %v, %v", since, again, err)
			}
		}
	})
}

// FuzzCursor: what is accepted as a cursor of a list is one that the list gave out,
// but for the spelling of its number.
func FuzzCursor(f *testing.F) {
	for _, c := range []*string{encodeCursor(endpointCursor, "1764000000123", "a"), encodeCursor(attemptCursor, "-1", "2|failed|whd_1"), encodeCursor(letterCursor, "1", "1-0")} {
		f.Add("cursor=" + *c + "&limit=10&status=failed")
	}
	f.Add("limit=0")
	f.Add("limit=+1&cursor=%00")
	f.Add("cursor=a&cursor=b")
	f.Fuzz(func(t *testing.T, query string) {
		var args fasthttp.Args
		args.Parse(query)
		for _, kind := range []string{endpointCursor, attemptCursor, letterCursor} {
			at, id, err := cursorOf(&args, kind)
			if err != nil {
				answerable(t, err)
				continue
			}
			if id == "" {
				continue // absent
			}
			again, same, ok := decodeCursor(kind, *encodeCursor(kind, strconv.FormatInt(at, 10), id))
			if (!ok || again != at || same != id) && len(id) < maxCursor/2 {
				t.Fatalf("%s cursor %d %q becomes %d %q, %t", kind, at, id, again, same, ok)
			}
			for _, other := range []string{endpointCursor, attemptCursor, letterCursor} {
				if _, _, err := cursorOf(&args, other); err == nil && other != kind {
					t.Fatalf("a cursor of %s is one of %s", kind, other)
				}
			}
		}
		if p, err := endpointPageOf(&args); err != nil {
			answerable(t, err)
		} else if p.limit < 1 || p.limit > maxEndpointPage {
			t.Fatalf("limit %d", p.limit)
		}
		if p, err := attemptPageOf(&args); err != nil {
			answerable(t, err)
		} else if p.limit < 1 || p.limit > maxAttemptPage {
			t.Fatalf("limit %d", p.limit)
		}
	})
}

// FuzzHeaders: what callers choose in headers is used as it is or refused.
func FuzzHeaders(f *testing.F) {
	f.Add([]byte("Bearer "+core.NewAPIKey()), []byte("order-1042"), []byte("req_1"))
	f.Add([]byte("bearer   x y"), []byte(""), []byte("a b"))
	f.Add([]byte("Basic eDp5"), bytes.Repeat([]byte("k"), maxIdempotencyKey+1), []byte("\x00"))
	f.Add([]byte("Bearer"), []byte("\xc3\xa9"), []byte(""))
	f.Fuzz(func(t *testing.T, authorization, key, id []byte) {
		token, ok := bearer(authorization)
		if ok != (token != "") || !bytes.HasSuffix(authorization, []byte(token)) || ok && token[0] == ' ' {
			t.Fatalf("token %q, %t of %q", token, ok, authorization)
		}
		var h fasthttp.RequestHeader
		h.SetBytesV("Idempotency-Key", key)
		got, err := idempotencyKey(&h)
		switch {
		case err != nil:
			answerable(t, err)
		case len(got) == 0 || len(got) > maxIdempotencyKey || bytes.ContainsFunc([]byte(got), func(r rune) bool { return r < '!' || r > '~' }):
			t.Fatalf("key %q of %q", got, key)
		}
		if validRequestID(id) && (len(id) > maxRequestID || bytes.ContainsAny(id, " \r\n\t\"\\<>&\x00")) {
			t.Fatalf("request id %q", id)
		}
	})
}
