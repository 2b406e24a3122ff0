package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

// TestDrainTakenOver: the backlog of a sender that ends in the middle is worked off
// by another one: at once if it was stopped, and then nothing is sent twice; when
// the lease of its claim has ended if it was killed, and then what was in flight or
// not stored is.
func TestDrainTakenOver(t *testing.T) {
	t.Parallel()
	const events, slots = 1000, 16
	for _, test := range []struct {
		name     string
		end      func(t *testing.T, p *process)
		within   time.Duration // of the end: the next request
		repeated int
	}{
		{"stopped", func(t *testing.T, p *process) {
			if status := p.stop(); status != 0 {
				t.Errorf("exit status %d after SIGTERM, want 0", status)
			}
		}, core.ClaimLease / 2, 0},
		{"killed", func(_ *testing.T, p *process) { p.kill() }, core.ClaimLease + 8*time.Second, perEndpoint(slots) + unsettled},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, map[string]string{"SEALPOST_CONCURRENCY": "16"})
			senders := map[string]*process{"sender": s.sender, "second": s.another("second")}
			acme := s.client("acme", "admin,publish")
			r := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
				time.Sleep(20 * time.Millisecond)
				w.WriteHeader(http.StatusNoContent)
			})
			e := acme.subscribe(r.url(), "lead.created")
			ids, release := acme.gather(e.ID, events, "lead.created")
			release()
			r.await(events / 10)
			first := s.draining(senders)
			test.end(t, first)
			before, ended := len(r.all()), time.Now()
			if before >= events {
				t.Fatalf("all %d requests were out before the sender ended", before)
			}
			next := r.awaitFor(before+1, test.within)[before].at
			t.Logf("%d of %d deliveries were out; the other sender went on after %v", before, events, next.Sub(ended))
			s.awaitSettled()
			checkDelivered(t, r.all(), ids, test.repeated)
			acme.checkStand(e.ID)
		})
	}
}
