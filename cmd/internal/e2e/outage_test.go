package e2e

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core/pace"
	"github.com/sealpost/sealpost/core/sender"
)

// TestOutage: an endpoint that is down costs what opens its circuit, and probes.
// When it is back it gets all that waited, each once, oldest first.
func TestOutage(t *testing.T) {
	t.Parallel()
	const (
		first  = 100  // which open the circuit: they come in any order
		events = 2000 // the first ones included
		// Bundles of the four queues come to the backlog side by side, and attempts
		// in flight overtake each other.
		disorder = 4*100 + sender.DefaultPerEndpoint
		// In flight when the circuit opens are one full endpoint, and what a drain
		// may begin with before it has seen failures of its own.
		burst = sender.DefaultPerEndpoint + pace.FailuresToOpen
	)
	for _, kind := range []struct {
		name string
		make func(t *testing.T, s *system) (url string, heal func() *receiver)
	}{
		{"refuses connections", func(t *testing.T, s *system) (string, func() *receiver) {
			door := newShut(t)
			return "https://" + door.addr + "/hook", func() *receiver { return newReceiverOn(t, s.ca, door.open(), nil) }
		}},
		{"answers 503", func(t *testing.T, s *system) (string, func() *receiver) {
			var healed atomic.Bool
			var r *receiver
			r = newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
				if healed.Load() {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			return r.url(), func() *receiver {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.requests = nil // of the outage
				healed.Store(true)
				return r
			}
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			acme := s.client("acme", "admin,publish")
			url, heal := kind.make(t, s)
			e := acme.subscribe(url, "lead.created")
			ids := acme.publishMany(first, "lead.created")
			acme.awaitStand(e.ID, "the endpoint is failing", func(st stand) bool { return st.State == "failing" })
			ids = append(ids, acme.publishMany(events-first, "lead.created")...)
			acme.awaitStand(e.ID, "everything waits for the failing endpoint", func(st stand) bool {
				return st.State == "failing" && st.Backlog == events && st.FailingSince != nil && st.PausedUntil != nil
			})
			s.eventually("probes", func() bool { return s.metric("sender", "sealpost_sender_probes_total") >= 2 })

			r := heal()
			back := time.Now()
			attempts, probes := s.metric("sender", "sealpost_sender_attempt_failures_total"), s.metric("sender", "sealpost_sender_probes_total")
			if most := burst + probes; attempts > most {
				t.Errorf("%v attempts while the endpoint was down, want %v at most: what is in flight, and %v probes", attempts, most, probes)
			}
			requests := r.await(events)
			noticed, done := requests[0].at.Sub(back), latest(requests).Sub(requests[0].at)
			s.awaitSettled()
			checkReceived(t, r.all(), ids)
			acme.checkStand(e.ID)
			late, most := overtaken(r.all(), ids[first:])
			if most > disorder {
				t.Errorf("an event came after one that is newer by %d places, want %d at most", most, disorder)
			}
			t.Logf("%v attempts and %v probes while it was down; noticed %v after its return, caught up %v later; %d events overtaken, by %d places at most",
				attempts, probes, noticed, done, late, most)
		})
	}
}
