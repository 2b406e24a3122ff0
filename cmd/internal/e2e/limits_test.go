package e2e

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"
)

// TestMaxInFlight: however many senders there are, no more requests are in flight
// at an endpoint than it allows.
func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.another("second")
	acme := s.client("acme", "admin,publish")
	const limit = 3
	var guests crowd
	r := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
		guests.enter()
		defer guests.leave()
		time.Sleep(5 * time.Millisecond)
		w.WriteHeader(http.StatusNoContent)
	})
	e := acme.subscribeWith(r.url(), "lead.created", map[string]any{"max_in_flight": limit})
	var ids []string
	for range 10 { // the backlog runs empty in between, and may go to the other sender
		ids = append(ids, acme.publishBatch(20, "lead.created")...)
		ids = append(ids, acme.publish(1, "lead.created", `{}`))
		r.await(len(ids))
	}
	s.awaitSettled()
	checkReceived(t, r.all(), ids)
	if guests.most != limit {
		t.Errorf("%d requests were in flight at a time, want %d", guests.most, limit)
	}
	acme.checkStand(e.ID)
}

// TestRateLimit: however many senders there are, in no second does an endpoint get
// more than it allows, and a burst.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.another("second")
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	const rate = 40
	const burst = 2 // what 50 ms allow
	e := acme.subscribeWith(r.url(), "lead.created", map[string]any{"rate_limit": rate})
	pace := startMetronome(t)
	var ids []string
	for range 3 { // the backlog runs empty in between, and may go to the other sender
		ids = append(ids, acme.publishBatch(40, "lead.created")...)
		r.await(len(ids))
	}
	allowance := pace.allowance()
	s.awaitSettled()
	checkReceived(t, r.all(), ids)
	acme.checkStand(e.ID)
	if err := withinRate(r.all(), rate, burst, allowance); err != nil {
		t.Error(err)
	}
}

// withinRate returns an error if more requests came within some second than the
// rate allows, and a burst. Each may seem to have come by allowance too late.
func withinRate(requests []received, rate float64, burst int, allowance time.Duration) error {
	most := int(math.Ceil(rate*(time.Second+allowance).Seconds())) + burst
	for i := range requests {
		if i+most >= len(requests) {
			break
		}
		if span := requests[i+most].at.Sub(requests[i].at); span < time.Second {
			return fmt.Errorf("%d requests came within %v, want %d at most in a second (on this machine %v may be seen)", most+1, span, most, allowance)
		}
	}
	return nil
}
