package publish

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
)

// wantRefused fails the test unless r is refused by its quota, to come back
// after wait.
func wantRefused(t *testing.T, p *Publisher, r *Request, wait time.Duration) {
	t.Helper()
	_, err := p.Publish(r)
	wantCode(t, err, core.CodeRateLimited)
	if e := new(core.Error); !errors.As(err, &e) || e.RetryAfter != wait {
		t.Errorf("come back after %v, want %v", e.RetryAfter, wait)
	}
	if r.Allowance.Window != wait {
		t.Errorf("a window of %v, want that of Retry-After, %v", r.Allowance.Window, wait)
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified")
	store.subscribe("other", "b", "call.qualified")
	p := start(t, Options{Store: store, Queue: queue, Quota: core.Quota{Rate: 0.5, Burst: 10}})
	bad := Item{Err: core.Invalid("type", "is required")}

	r := request(item(0), bad, item(1), item(2))
	mustPublish(t, p, r)
	if diff := cmp.Diff(Allowance{Known: true, Events: 7, Window: 6 * time.Second}, r.Allowance); diff != "" {
		t.Errorf("after 3 events and a bad one (-want +got):\n%s", diff)
	}
	same := Item{ID: "same", Type: "call.qualified", Body: []byte("1"), Hash: [32]byte{1}}
	r = request(same, same, item(3))
	mustPublish(t, p, r)
	if r.Allowance.Events != 5 {
		t.Errorf("%d left after an event, its repetition and another one, want 5", r.Allowance.Events)
	}
	before := len(queue.stored())
	for name, refused := range map[string]*Request{
		"a batch":    request(item(0), item(1), item(2), item(3), item(4), item(5)),
		"with a key": keyed(request(item(0), item(1), item(2), item(3), item(4), item(5)), "k", 1),
		"with ids":   request(same, Item{ID: "2", Type: "call.qualified"}, Item{ID: "3", Type: "call.qualified"}, item(1), item(2), item(3)),
	} {
		t.Log(name)
		wantRefused(t, p, refused, 2*time.Second)
	}
	if got := queue.stored(); len(got) != before {
		t.Errorf("%d deliveries of refused requests were stored", len(got)-before)
	}
	if n := testutil.ToFloat64(p.metrics.rejected[core.CodeRateLimited]); n != 18 {
		t.Errorf("%v events are counted as refused, want 18", n)
	}
	claims := make(map[string]bool)
	for name := range store.claims {
		claims[name] = true
	}
	if diff := cmp.Diff(map[string]bool{"acme id:same": true}, claims); diff != "" {
		t.Errorf("claims that are left (-want +got):\n%s", diff)
	}

	five := keyed(request(item(0), item(1), item(2), item(3), item(4)), "k", 2) // the key is unused, so the body may differ
	mustPublish(t, p, five)
	wantRefused(t, p, single("", "{}"), 2*time.Second)
	other := single("", "{}")
	other.Organization = "other"
	mustPublish(t, p, other)
}

// A request that no wait would let pass is not told to wait.
func TestQuotaNeverAllows(t *testing.T) {
	t.Parallel()
	store := newStubStore()
	p := start(t, Options{Store: store, Queue: &stubQueue{}, Quota: core.Quota{Rate: 1000, Burst: 2}})
	_, err := p.Publish(request(item(0), item(1), item(2)))
	wantCode(t, err, core.CodeTooLarge)
	if len(store.begins) != 0 {
		t.Error("the store was asked")
	}
	mustPublish(t, p, request(item(0), Item{Err: core.Invalid("type", "is required")}, item(2)))
}

// Without an answer of the store nothing is allowed, nor known about the quota.
func TestQuotaUnknown(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified")
	p := start(t, Options{Store: store, Queue: queue, Quota: core.Quota{Rate: 1, Burst: 2}})
	store.beginFunc = func(context.Context, []string, []core.Reservation, core.Draws) ([]string, []core.ReservationState, error) {
		return nil, nil, errRedis
	}
	r := single("", "{}")
	_, err := p.Publish(r)
	wantCode(t, err, core.CodeUnavailable)
	if r.Allowance.Known || len(queue.stored()) != 0 {
		t.Errorf("allowance %+v, %d stored", r.Allowance, len(queue.stored()))
	}
}
