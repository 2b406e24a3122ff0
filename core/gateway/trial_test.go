package gateway

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/sign"
)

// tested is a receiver of tests over plain HTTP.
type tested struct {
	*httptest.Server
	mu      sync.Mutex
	status  int
	headers []http.Header
	bodies  []string
}

func newTested(t *testing.T) *tested {
	r := &tested{status: 204}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.headers, r.bodies = append(r.headers, request.Header), append(r.bodies, string(body))
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func TestEndpointIsTested(t *testing.T) {
	t.Parallel()
	f, r := setup(t), newTested(t)
	ref := core.EndpointRef{Organization: "acme", ID: core.NewEndpointID()}
	secret, record := testKeyring(t).NewSecret(ref, 1, time.Now())
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	e := f.store.add(core.Endpoint{ID: ref.ID, URL: r.URL + "/hook", Enabled: true, Secrets: []core.Secret{record}})
	path := "/api/v1/webhooks/" + e.ID + "/test"

	var got trialJSON
	a := f.call("POST", path, "").want(200, "")
	a.decode(&got)
	status := 204
	want := trialJSON{EventID: got.EventID, Status: core.StatusDelivered, ResponseStatus: &status, Address: core.AddressLoopback, Timings: got.Timings}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", a.body, diff)
	}
	if g := got.Timings; g == nil || g.Connect <= 0 || g.FirstByte <= 0 || g.Total < g.Connect+g.FirstByte || g.TLS != 0 {
		t.Errorf("timings %+v", g)
	}
	r.mu.Lock()
	h, body := r.headers[0], r.bodies[0]
	r.status = 410
	r.mu.Unlock()
	if h.Get(sign.HeaderID) != got.EventID || !strings.HasPrefix(body, `{"type":"sealpost.test","timestamp":"20`) || !strings.HasSuffix(body, `"data":{"endpoint_id":"`+e.ID+`"}}`) {
		t.Errorf("sent %s %s", h.Get(sign.HeaderID), body)
	}
	if err := sign.Verify([][]byte{key}, h.Get, []byte(body), time.Now(), time.Minute); err != nil {
		t.Errorf("signature: %v", err)
	}
	// A refusal has no consequences, whatever it is.
	f.call("POST", path, "{}").want(200, "").decode(&got)
	if got.Status != core.StatusFailed || got.Error == nil || *got.Error != core.ReasonStatus410 || *got.ResponseStatus != 410 {
		t.Errorf("410: %+v", got)
	}
	if now, err := f.store.Endpoint(t.Context(), ref); err != nil || !now.Enabled || len(f.store.attempts) != 0 {
		t.Error("a test has consequences")
	}
}

// What may not be reached is said in one word, and nothing else is said about it.
func TestBlockedTest(t *testing.T) {
	t.Parallel()
	f, r := setup(t), newTested(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(r.URL, "http://"), ":")
	e := f.store.add(core.Endpoint{URL: "http://127.0.0.2:" + port + "/", Enabled: true})
	a := f.call("POST", "/api/v1/webhooks/"+e.ID+"/test", "").want(200, "")
	var got trialJSON
	a.decode(&got)
	if want := `{"event_id":"` + got.EventID + `","status":"failed","response_status":null,"error":"blocked_address","timings":null}`; a.body != want {
		t.Errorf(" got %s\nwant %s", a.body, want)
	}
	// No secret, no request.
	e = f.store.add(core.Endpoint{URL: r.URL, Enabled: true})
	f.call("POST", "/api/v1/webhooks/"+e.ID+"/test", "").want(200, "").decode(&got)
	if got.Error == nil || *got.Error != core.ReasonSigningKey || len(r.bodies) != 0 {
		t.Errorf("%+v, %d requests", got, len(r.bodies))
	}
}

func TestTestJudgement(t *testing.T) {
	t.Parallel()
	f, r := setup(t), newTested(t)
	e := f.store.add(core.Endpoint{URL: r.URL})
	path := "/api/v1/webhooks/" + e.ID + "/test"
	f.call("POST", "/api/v1/webhooks/"+someID+"/test", "[").want(404, core.CodeNotFound)
	f.call("POST", path, strings.Repeat(" ", maxManagementBody+1)).want(413, core.CodeTooLarge)
	f.call("POST", path, "[").want(400, core.CodeInvalidJSON)
	f.call("POST", path, `{"type":"lead.created"}`).want(422, core.CodeInvalid, "type")
	f.call("POST", path, "").want(409, core.CodeConflict).detail("disabled")
	f.store.mu.Lock()
	e.Enabled = true
	f.store.endpoints[e.Ref()] = e
	f.store.testWait = 300 * time.Millisecond
	f.store.mu.Unlock()
	if a := f.call("POST", path, "").want(429, core.CodeRateLimited); a.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
	if len(r.bodies) != 0 {
		t.Errorf("%d requests", len(r.bodies))
	}
}
