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
		first  = 100 // events that open the circuit: they come in any order
		waves  = 5   // of further events, each published when the one before waits
		wave   = 380
		events = first + waves*wave
		// Bundles of one wave come to the backlog side by side. Whoever has to make a
		// connection first may be overtaken by many that have one.
		disorder   = 2 * wave
		stragglers = sender.DefaultPerEndpoint
		// In flight when the circuit opens are one full endpoint, and what drains that
		// were at work by then begin before they have seen failures enough themselves.
		burst = sender.DefaultPerEndpoint + 2*pace.FailuresToOpen
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
			r := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
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
			for range waves {
				ids = append(ids, acme.publishMany(wave, "lead.created")...)
				acme.awaitStand(e.ID, "the events wait", func(st stand) bool { return st.Backlog >= len(ids)-first })
			}
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
			late, most := overtaken(r.all(), ids[first:], disorder)
			if late > stragglers {
				t.Errorf("%d events came after others that are newer by more than %d places, want %d at most", late, disorder, stragglers)
			}
			t.Logf("%v attempts and %v probes while it was down; noticed %v after its return, caught up %v later; %d events overtaken by more than %d places, by %d at most",
				attempts, probes, noticed, done, late, disorder, most)
		})
	}
}
