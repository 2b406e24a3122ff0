package gateway

import (
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

func TestEventTrail(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	time.Sleep(2 * time.Millisecond) // of two endpoints made in the same one the order is another
	other := f.subscribe("lead.created").ID
	d, at := f.delivery(1), time.Date(2026, 4, 27, 17, 42, 17, 859e6, time.UTC)
	row := func(endpoint, delivery string, number int, status core.Status, code int, reason core.Reason, next time.Time) core.Attempt {
		return core.Attempt{
			Delivery: delivery, Event: "evt_1", EventType: "lead.created", Endpoint: endpoint, Number: number, Status: status, ResponseStatus: code,
			Reason: reason, StartedAt: at.Add(time.Duration(number) * time.Second), Latency: 20 * time.Millisecond, NextAt: next,
		}
	}
	f.must(f.store.Record(t.Context(), core.Record{Attempts: []core.Attempt{
		row(f.ref.ID, d.ID, 1, core.StatusRetrying, 500, core.ReasonStatus5xx, at.Add(time.Minute)),
		row(f.ref.ID, d.ID, 2, core.StatusFailed, 0, core.ReasonTimeout, time.Time{}),
		row(other, "whd_b", 1, core.StatusDelivered, 204, "", time.Time{}),
	}}))
	f.must(f.store.AddDeadLetters(t.Context(), []core.DeadLetter{{Delivery: d, Reason: core.ReasonTimeout, At: at}}))
	// The newest endpoint comes first.
	want := `{"id":"evt_1","event":"lead.created","deliveries":[` +
		`{"id":"whd_b","endpoint_id":"` + other + `","status":"delivered","dead_letter":false,"attempts":[` +
		`{"attempt":1,"status":"delivered","response_status":204,"error":null,"started_at":"2026-04-27T17:42:18.859Z","latency_ms":20,"next_attempt_at":null}]},` +
		`{"id":"` + d.ID + `","endpoint_id":"` + f.ref.ID + `","status":"failed","dead_letter":true,"attempts":[` +
		`{"attempt":2,"status":"failed","response_status":null,"error":"timeout","started_at":"2026-04-27T17:42:19.859Z","latency_ms":20,"next_attempt_at":null},` +
		`{"attempt":1,"status":"retrying","response_status":500,"error":"status_5xx","started_at":"2026-04-27T17:42:18.859Z","latency_ms":20,"next_attempt_at":"2026-04-27T17:43:17.859Z"}]}]}`
	if a := f.call("GET", "/api/v1/events/evt_1", "").want(200, ""); a.body != want {
		t.Errorf(" got %s\nwant %s", a.body, want)
	}
	for _, id := range []string{"evt_2", "evt_1%20", "evt.1", "x|y"} {
		f.call("GET", "/api/v1/events/"+id, "").want(404, core.CodeNotFound)
	}
	// Nobody else's.
	key := core.NewAPIKey()
	hash, _ := core.HashAPIKey(key)
	f.must(f.store.CreateAPIKey(t.Context(), hash, core.APIKey{ID: "key_o", Organization: "other", Scopes: []core.Scope{core.ScopeAdmin}, CreatedAt: at}))
	f.call("GET", "/api/v1/events/evt_1", "", "Authorization", "Bearer "+key).want(404, core.CodeNotFound)
}

// TestTrailsAreLimited: an organization that follows too many events waits for itself,
// over all gateways, and nobody can have more of them followed at a time than there are
// places for.
func TestTrailsAreLimited(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	for range 99 { // so that one event costs what comes back in a fifth of a second
		f.subscribe("lead.created")
	}
	for range 4 { // more logs than the allowance lets be looked through at once
		if wait, err := f.store.AllowTrail(t.Context(), "acme", 1249); wait != 0 || err != nil {
			t.Fatalf("wait %v, %v", wait, err)
		}
	}
	status, retry := 0, ""
	for range 50 { // 4 logs are left of the allowance, and those that come back meanwhile
		a := f.call("GET", "/api/v1/events/evt_1", "")
		if status, retry = a.StatusCode, a.Header.Get("Retry-After"); status == 429 {
			a.want(429, core.CodeRateLimited)
			break
		}
		a.want(404, core.CodeNotFound)
	}
	if status != 429 || retry != "1" {
		t.Errorf("in the end status %d, Retry-After %q", status, retry)
	}
}

func TestTrailsHavePlaces(t *testing.T) {
	t.Parallel()
	f := setup(t)
	entered, leave := make(chan struct{}, maxTrails), make(chan struct{})
	f.store.trailFunc = func() { entered <- struct{}{}; <-leave }
	var wg sync.WaitGroup
	for range maxTrails {
		wg.Go(func() { f.call("GET", "/api/v1/events/evt_1", "").want(404, core.CodeNotFound) })
		<-entered
	}
	f.call("GET", "/api/v1/events/evt_1", "").want(503, core.CodeUnavailable).detail("too many")
	// Who has no allowance left is told so, and takes no place.
	wait := func(d time.Duration) {
		f.store.mu.Lock()
		defer f.store.mu.Unlock()
		f.store.trailWait = d
	}
	wait(time.Second)
	f.call("GET", "/api/v1/events/evt_1", "").want(429, core.CodeRateLimited)
	wait(0)
	close(leave)
	wg.Wait()
	f.call("GET", "/api/v1/events/evt_1", "").want(404, core.CodeNotFound)
}
