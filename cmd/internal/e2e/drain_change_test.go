package e2e

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// Backlogs of the tests below. One waits until the other URL is given; the other
// is being worked off, for a second or more, when something changes.
const (
	waitingEvents  = 200
	drainingEvents = 600
)

// drainSlots lets a backlog of drainingEvents last: 8 at a time, 20 ms each.
var drainSlots = map[string]string{"SEALPOST_CONCURRENCY": "16"}

// leisurely is an answer function of a receiver whose backlog takes a while.
func leisurely(_ int, _ *received, w http.ResponseWriter) {
	time.Sleep(20 * time.Millisecond)
	w.WriteHeader(http.StatusNoContent)
}

// fail makes a backlog by an outage: n events wait for r, which answers 503.
func (c *client) fail(endpoint string, n int, eventType string) []string {
	c.s.t.Helper()
	ids := c.publishMany(n, eventType)
	c.awaitStand(endpoint, "everything waits for the failing endpoint", func(st stand) bool {
		return st.State == "failing" && st.Backlog == n
	})
	return ids
}

// TestMoveWhileBacklogWaits: what waits for an endpoint that is down goes to its
// new URL as soon as it has one, and nothing to the old one.
func TestMoveWhileBacklogWaits(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	old, fresh := newReceiver(t, s.ca, answers(503)), newReceiver(t, s.ca, nil)
	e := acme.subscribe(old.url(), "lead.created")
	ids := acme.fail(e.ID, waitingEvents, "lead.created")
	pace := startMetronome(t)
	acme.patch(e.ID, `{"url":"`+fresh.url()+`"}`)
	moved := time.Now()
	fresh.await(len(ids))
	allowance := pace.allowance()
	s.awaitSettled()
	checkReceived(t, fresh.all(), ids)
	if late := latest(old.all()).Sub(moved); late > allowance {
		t.Errorf("a request to the old URL came %v after PATCH had answered; on this machine %v may be seen", late, allowance)
	}
	acme.checkStand(e.ID)
}

// TestMoveInMidDrain is the same for a backlog that is being worked off.
func TestMoveInMidDrain(t *testing.T) {
	t.Parallel()
	s := newSystem(t, drainSlots)
	acme := s.client("acme", "admin,publish")
	old, fresh := newReceiver(t, s.ca, leisurely), newReceiver(t, s.ca, nil)
	e := acme.subscribe(old.url(), "lead.created")
	ids, release := acme.gather(e.ID, drainingEvents, "lead.created")
	release()
	old.await(20)
	pace := startMetronome(t)
	acme.patch(e.ID, `{"url":"`+fresh.url()+`"}`)
	moved := time.Now()
	s.awaitSettled()
	allowance := pace.allowance()
	if late := latest(old.all()).Sub(moved); late > allowance {
		t.Errorf("a request to the old URL came %v after PATCH had answered; on this machine %v may be seen", late, allowance)
	}
	if n := len(fresh.all()); n == 0 {
		t.Error("nothing was left for the new URL: the test is too slow")
	}
	checkReceived(t, append(old.all(), fresh.all()...), ids)
	acme.checkStand(e.ID)
}

// TestDeleteWithBacklog: once DELETE has answered nothing that waits is sent, and
// nothing of it is left in Redis, also where a drain was at work.
func TestDeleteWithBacklog(t *testing.T) {
	t.Parallel()
	s := newSystem(t, drainSlots)
	acme := s.client("acme", "admin,publish")
	var down atomic.Bool
	down.Store(true)
	failing := newReceiver(t, s.ca, func(n int, q *received, w http.ResponseWriter) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	draining := newReceiver(t, s.ca, leisurely)
	waits, drains := acme.subscribe(failing.url(), "call.received"), acme.subscribe(draining.url(), "lead.created")
	acme.fail(waits.ID, waitingEvents, "call.received")
	_, release := acme.gather(drains.ID, drainingEvents, "lead.created")
	release()
	draining.await(20)

	pace := startMetronome(t)
	for _, e := range []*endpoint{waits, drains} {
		acme.do(http.StatusOK, "DELETE", "/api/v1/webhooks/"+e.ID, "")
	}
	deleted := time.Now()
	down.Store(false)
	s.awaitSettled()
	time.Sleep(2 * time.Second) // a look at what does not wait any more would be due now
	allowance := pace.allowance()
	for _, r := range []*receiver{failing, draining} {
		if late := latest(r.all()).Sub(deleted); late > allowance {
			t.Errorf("a request came %v after DELETE had answered; on this machine %v may be seen", late, allowance)
		}
	}
	if n := len(draining.all()); n >= drainingEvents {
		t.Errorf("all %d requests were out before the deletion: the test is too slow", n)
	}
	client := s.redis.Client(t)
	for _, e := range []*endpoint{waits, drains} {
		if keys := s.keysOf(e.ID); len(keys) != 0 {
			t.Errorf("of the deleted endpoint these keys are left: %v", keys)
		}
		if n := client.Exists(context.Background(), "sp:{drain-00}:backlog:"+e.ID).Val(); n != 0 {
			t.Error("its backlog is left")
		}
		for hash, field := range map[string]string{"conditions": e.ID, "failing": e.ID, "sizes": e.ID, "owners": "acme/" + e.ID} {
			if value := s.field(hash, field); value != "" {
				t.Errorf("of the deleted endpoint this is left in %s: %s", hash, value)
			}
		}
	}
	for _, total := range []string{"deliveries", "bytes"} {
		if value := s.field("totals", total); value != "0" && value != "" {
			t.Errorf("%s %s are counted in all backlogs, want 0", value, total)
		}
	}
}
