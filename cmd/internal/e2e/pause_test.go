package e2e

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

// TestPausedForAllSenders: an endpoint that names a time, with whatever status, is
// left alone until then by all senders, by fresh events too.
func TestPausedForAllSenders(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.another("second")
	acme := s.client("acme", "admin,publish")
	const pause = 3 * time.Second
	type asking struct {
		event     string
		status    int
		delivered bool // by the first request
		r         *receiver
		e         *endpoint
		first     string
		mu        sync.Mutex
		until     time.Time
	}
	endpoints := []*asking{{event: "lead.created", status: 200, delivered: true}, {event: "call.received", status: 429}}
	for _, a := range endpoints {
		a.r = newReceiver(t, s.ca, func(n int, _ *received, w http.ResponseWriter) {
			if n > 1 {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			a.mu.Lock()
			a.until = time.Now().Add(pause)
			a.mu.Unlock()
			w.Header().Set("Retry-After", strconv.Itoa(int(pause/time.Second)))
			w.WriteHeader(a.status)
		})
		a.e = acme.subscribe(a.r.url(), a.event)
		a.first = acme.publish(1, a.event, `{}`)
	}
	for _, a := range endpoints {
		acme.awaitStand(a.e.ID, "the endpoint is paused", func(st stand) bool { return st.State == "paused" && st.PausedUntil != nil })
	}
	time.Sleep(core.RecordLifetime) // from now on every sender knows

	for _, a := range endpoints {
		ids := []string{a.first}
		for range 20 { // tasks in every queue, for both senders
			ids = append(ids, acme.publish(1, a.event, `{}`))
		}
		ids = append(ids, acme.publishBatch(20, a.event)...)
		want := len(ids)
		if !a.delivered {
			want++
		}
		requests := a.r.await(want)
		a.mu.Lock()
		until := a.until
		a.mu.Unlock()
		for _, q := range requests[1:] {
			if q.at.Before(until) {
				t.Errorf("%d: a request came %v too early", a.status, until.Sub(q.at))
			}
		}
		if requests[0].id() != a.first {
			t.Errorf("%d: the first request was for %s, want %s", a.status, requests[0].id(), a.first)
		}
		if a.delivered {
			checkReceived(t, requests, ids)
		} else {
			checkReceived(t, requests[1:], ids)
		}
	}
	s.awaitSettled()
	for _, a := range endpoints {
		acme.checkStand(a.e.ID)
	}
}
