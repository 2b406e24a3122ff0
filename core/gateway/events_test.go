package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
)

const goodEvent = `{"type":"call.qualified","data":{"a":1.0}}`

func TestPostEvent(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 4, 27, 17, 42, 17, 859e6, time.UTC)
	f := setup(t, func(o *Options) { o.Now = func() time.Time { return now } })
	a := f.call("POST", "/api/v1/events", goodEvent).want(202, "")
	if a.body != `{"id":"evt_1","deliveries":1}` {
		t.Errorf("body %s", a.body)
	}
	want := &publish.Request{
		Organization: "acme", Arrived: now, RequestID: a.Header.Get("X-Request-Id"),
		Items: []publish.Item{{Type: "call.qualified", Body: []byte(`{"type":"call.qualified","timestamp":"2026-04-27T17:42:17.859Z","data":{"a":1.0}}`)}},
	}
	if diff := cmp.Diff(want, f.publisher.last(t)); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	f.call("POST", "/api/v1/events", goodEvent, "Idempotency-Key", "k").want(202, "")
	if r := f.publisher.last(t); r.Key != "k" || r.BodyHash != sha256.Sum256([]byte(goodEvent)) {
		t.Errorf("request %+v", r)
	}
}

func TestBadEvents(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.MaxPayload = 1000 })
	status := map[core.Code]int{core.CodeInvalidJSON: 400, core.CodeInvalid: 422, core.CodeTooLarge: 413}
	for _, tt := range badEvents {
		a := f.call("POST", "/api/v1/events", tt.json)
		a.what = tt.name
		a.want(status[tt.code], tt.code, tt.fields...)
	}
	f.call("POST", "/api/v1/events", `{"type":"call.qualified","data":"`+strings.Repeat("x", 999)+`"}`).want(413, core.CodeTooLarge).detail("1000 bytes")
	f.call("POST", "/api/v1/events", strings.Repeat(" ", 1000+maxEventEnvelope+1)).want(413, core.CodeTooLarge).detail("5096 bytes")
	f.call("POST", "/api/v1/events", strings.Repeat("x", 5<<20)).want(413, core.CodeTooLarge)
}

func TestIdempotencyKeyHeader(t *testing.T) {
	t.Parallel()
	f := setup(t)
	longest := strings.Repeat("k", 255)
	for _, key := range []string{"a", longest, `!"#$%&'()*+,-./:;<=>?@[\]^_{|}~` + "`"} {
		f.call("POST", "/api/v1/events", goodEvent, "Idempotency-Key", key).want(202, "")
		if got := f.publisher.last(t).Key; got != key {
			t.Errorf("key %q arrived as %q", key, got)
		}
	}
	for _, path := range []string{"/api/v1/events", "/api/v1/events/batch"} {
		for _, key := range []string{longest + "k", "a b", "é", "a\tb", "\x80"} {
			f.call("POST", path, goodEvent, "Idempotency-Key", key).want(400, core.CodeBadRequest, "Idempotency-Key")
		}
		for _, values := range [][]string{{""}, {"a", "b"}, {"a", "a"}} {
			request, err := http.NewRequest("POST", "http://"+f.server.Addr().String()+path, strings.NewReader(goodEvent))
			if err != nil {
				t.Fatal(err)
			}
			request.Header["Authorization"] = []string{"Bearer " + f.key}
			request.Header["Idempotency-Key"] = values
			f.do(request).want(400, core.CodeBadRequest, "Idempotency-Key")
		}
	}
	if f.publisher.rejected[core.CodeBadRequest] != 16 {
		t.Errorf("rejected %v", f.publisher.rejected)
	}
}

// The same bytes are another request on another route.
func TestBodyKinds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var hashes [][32]byte
	send := func(path, body string, headers ...string) {
		f.call("POST", path, body, append(headers, "Idempotency-Key", "k")...).want(202, "")
		hashes = append(hashes, f.publisher.last(t).BodyHash)
	}
	send("/api/v1/events", goodEvent)
	send("/api/v1/events/batch", goodEvent, "Content-Type", "application/x-ndjson")
	send("/api/v1/events/batch", `[`+goodEvent+`]`)
	send("/api/v1/events/batch", `[`+goodEvent+`]`, "Content-Type", "application/json")
	if hashes[0] == hashes[1] || hashes[0] == [32]byte{} || hashes[2] != hashes[3] {
		t.Errorf("hashes %x", hashes)
	}
}

func TestPostBatch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.publisher.publishFunc = func(*publish.Request) ([]byte, error) { return []byte(`{"data":[]}`), nil }
	for name, tt := range map[string]struct{ contentType, body string }{
		"array":             {"application/json", `[` + goodEvent + `,{"type":1,"data":2},` + goodEvent + `]`},
		"no type":           {"", `[` + goodEvent + `,{"type":1,"data":2},` + goodEvent + `]`},
		"lines":             {"application/x-ndjson", goodEvent + "\n{\"type\":1,\"data\":2}\n\n" + goodEvent},
		"lines, parameters": {"Application/X-NDJSON ; charset=utf-8", goodEvent + "\r\n{\"type\":1,\"data\":2}\r\n" + goodEvent + "\r\n"},
	} {
		f.call("POST", "/api/v1/events/batch", tt.body, "Content-Type", tt.contentType).want(202, "")
		r := f.publisher.last(t)
		if diff := cmp.Diff([]core.Code{"", core.CodeInvalid, ""}, itemCodes(r.Items)); diff != "" || !r.Batch || r.Key != "" {
			t.Errorf("%s: batch %t (-want +got):\n%s", name, r.Batch, diff)
		}
	}
}

func TestBadBatches(t *testing.T) {
	t.Parallel()
	f := setup(t)
	tests := []struct {
		name, contentType, body string
		status                  int
		code                    core.Code
	}{
		{"empty body", "", ``, 400, core.CodeInvalidJSON},
		{"broken array", "", `[` + goodEvent + `,`, 400, core.CodeInvalidJSON},
		{"more after it", "", `[]]`, 400, core.CodeInvalidJSON},
		{"an object", "", goodEvent, 422, core.CodeInvalid},
		{"lines sent as an array", "", goodEvent + "\n" + goodEvent, 400, core.CodeInvalidJSON},
		{"1,001 events", "", `[` + strings.Repeat(goodEvent+`,`, 1000) + goodEvent + `]`, 413, core.CodeTooLarge},
		{"1,001 broken events", "", `[` + strings.Repeat(`{},`, 1000) + `{`, 413, core.CodeTooLarge},
		{"1,001 lines", "application/x-ndjson", strings.Repeat("x\n", 1001), 413, core.CodeTooLarge},
		{"above 5 MiB", "", strings.Repeat(" ", 5<<20) + `[]`, 413, core.CodeTooLarge},
		{"lines above 5 MiB", "application/x-ndjson", strings.Repeat("\n", 5<<20+1), 413, core.CodeTooLarge},
	}
	for _, tt := range tests {
		a := f.call("POST", "/api/v1/events/batch", tt.body, "Content-Type", tt.contentType)
		a.what = tt.name
		a.want(tt.status, tt.code)
	}
	if len(f.publisher.requests) != 0 {
		t.Error("something was published")
	}
	f.publisher.publishFunc = func(*publish.Request) ([]byte, error) { return []byte(`{"data":[]}`), nil }
	f.call("POST", "/api/v1/events/batch", `[]`).want(202, "")
	f.call("POST", "/api/v1/events/batch", strings.Repeat("\n", 5<<20), "Content-Type", "application/x-ndjson").want(202, "")
	largest := `{"type":"call.qualified","data":"` + strings.Repeat("x", DefaultMaxPayload-2) + `"}`
	f.call("POST", "/api/v1/events/batch", `[`+largest+strings.Repeat(`,`+largest, 18)+`]`).want(202, "")
	for i, item := range f.publisher.last(t).Items {
		if item.Err != nil {
			t.Errorf("item %d of the largest size: %v", i, item.Err)
		}
	}
}

// What the publisher says reaches the caller, its causes do not.
func TestPublisherErrors(t *testing.T) {
	t.Parallel()
	f := setup(t)
	secret := errors.New("dial tcp 10.1.2.3:6379")
	tests := []struct {
		err        error
		status     int
		code       core.Code
		retryAfter string
	}{
		{core.Unavailable("not confirmed", secret), 503, core.CodeUnavailable, "1"},
		{&core.Error{Code: core.CodeInProgress, Detail: "in progress", RetryAfter: 1500 * time.Millisecond, Err: secret}, 409, core.CodeInProgress, "2"},
		{&core.Error{Code: core.CodeIdempotencyMismatch, Detail: "mismatch", Err: secret}, 422, core.CodeIdempotencyMismatch, ""},
		{&core.Error{Code: core.CodeInternal, Detail: "10.1.2.3", Err: secret}, 500, core.CodeInternal, ""},
		{&core.Error{Code: "made up", Detail: "10.1.2.3"}, 500, core.CodeInternal, ""},
		{secret, 500, core.CodeInternal, ""},
		{context.DeadlineExceeded, 503, core.CodeUnavailable, "1"},
	}
	for _, tt := range tests {
		f.publisher.publishFunc = func(*publish.Request) ([]byte, error) { return nil, tt.err }
		a := f.call("POST", "/api/v1/events", goodEvent).want(tt.status, tt.code)
		if a.Header.Get("Retry-After") != tt.retryAfter || strings.Contains(a.body, "10.1.2.3") {
			t.Errorf("%v: Retry-After %q, body %s", tt.err, a.Header.Get("Retry-After"), a.body)
		}
	}
	if !strings.Contains(f.logs.String(), "10.1.2.3") {
		t.Error("operators do not learn the cause")
	}
}

// The time that Redis needed for the key is taken from the publisher's budget,
// the time that the caller needed for the body is not.
func TestArrived(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var before time.Time
	f.server.keys.store = stubKeys(func(context.Context, [32]byte) (*core.APIKey, error) {
		time.Sleep(50 * time.Millisecond)
		before = time.Now()
		return &core.APIKey{Organization: "acme", Scopes: []core.Scope{core.ScopePublish}}, nil
	})
	f.call("POST", "/api/v1/events", goodEvent).want(202, "")
	arrived := f.publisher.last(t).Arrived
	if d := before.Sub(arrived); d < 0 {
		t.Errorf("the wait for the key is not counted: %v", d)
	}
	f.call("POST", "/api/v1/events", goodEvent).want(202, "") // now the key is known
	if f.publisher.last(t).Arrived.Before(before) {
		t.Error("no wait for the key, but some is counted")
	}
}

func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.publisher.publishFunc = func(*publish.Request) ([]byte, error) { panic("secret 10.1.2.3") }
	a := f.call("POST", "/api/v1/events", goodEvent).want(500, core.CodeInternal)
	if strings.Contains(a.body, "secret") || !strings.Contains(f.logs.String(), "secret 10.1.2.3") {
		t.Errorf("body %s, logs %s", a.body, f.logs)
	}
	f.call("GET", "/api/v1/event-types", "").want(200, "")
}
