package e2e

import (
	"net/http"
	"testing"
)

// TestSilentEndpoint: an endpoint that never answers holds up nobody: while
// hundreds of its events wait, all events for another endpoint of the same
// organization are delivered.
func TestSilentEndpoint(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_CONCURRENCY": "16", "SEALPOST_DELIVERY_TIMEOUT": "60s"})
	acme := s.client("acme", "admin,publish")
	held := newGate()
	silent := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
		held.wait()
		w.WriteHeader(http.StatusNoContent)
	})
	t.Cleanup(held.release)
	healthy := newReceiver(t, s.ca, nil)
	e := acme.subscribe(silent.url(), "call.received")
	other := acme.subscribe(healthy.url(), "lead.created")

	var unanswered, ids []string
	for range 10 { // mixed: both wait in the same queues
		unanswered = append(unanswered, acme.publishBatch(50, "call.received")...)
		ids = append(ids, acme.publishBatch(50, "lead.created")...)
	}
	healthy.await(len(ids)) // and no request to the other was answered
	checkReceived(t, healthy.all(), ids)
	if n := s.metric("sender", "sealpost_sender_deliveries_total", `status="delivered"`); int(n) > len(ids) {
		t.Errorf("%v deliveries are done, want %d: the other endpoint answers nothing", n, len(ids))
	}
	acme.checkStand(other.ID)
	acme.awaitStand(e.ID, "the silent one is known to be slow", func(st stand) bool { return st.State == "slow" || st.State == "catching_up" })
	waiting := len(silent.all())
	if most := 2 * perEndpoint(16); waiting > most { // out of bundles, and out of the backlog
		t.Errorf("%d requests wait for an answer, want %d at most", waiting, most)
	}
	t.Logf("%d requests waited for an answer of the silent endpoint", waiting)

	held.release()
	silent.await(len(unanswered))
	s.awaitSettled()
	checkReceived(t, silent.all(), unanswered)
}
