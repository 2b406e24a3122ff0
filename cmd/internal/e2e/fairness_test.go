package e2e

import (
	"net/http"
	"testing"
)

// TestFloodHoldsNobodyUp: an organization floods receivers that do not answer,
// with far more than all slots could take; what another one publishes meanwhile is
// delivered, and the flood too once its receivers answer.
func TestFloodHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	const slots, events, others = 8, 700, 20
	s := newSystem(t, map[string]string{"SEALPOST_CONCURRENCY": "8", "SEALPOST_DELIVERY_TIMEOUT": "60s"})
	flooding, quiet := s.client("flood", "admin,publish"), s.client("quiet", "admin,publish")
	held := newGate()
	silent := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
		held.wait()
		w.WriteHeader(http.StatusNoContent)
	})
	answering := newReceiver(t, s.ca, func(n int, _ *received, w http.ResponseWriter) {
		if n == 1 {
			held.wait() // so that somebody else is about all the time
		}
		w.WriteHeader(http.StatusNoContent)
	})
	t.Cleanup(held.release)
	types := []string{"lead.created", "call.received", "call.qualified"} // an endpoint alone may have half of the slots only
	for _, eventType := range types {
		flooding.subscribe(silent.url(), eventType)
	}
	quiet.subscribe(answering.url(), "lead.created")

	published := []string{quiet.publish(1, "lead.created", `{"n":0}`)}
	answering.await(1)
	var flood []string
	for _, eventType := range types {
		flood = append(flood, flooding.publishBatch(events, eventType)...)
	}
	silent.await(slots / 2)
	for range others {
		published = append(published, quiet.publish(1, "lead.created", `{"n":1}`))
	}
	checkReceived(t, answering.await(1+others), published)
	// Attempts that take long leave their slots: four times as many of them may be in
	// flight beside the slots.
	if n := len(silent.all()); n < slots/2 || n > 5*slots {
		t.Errorf("the flood has %d attempts in flight, want at most %d", n, 5*slots)
	}
	held.release()
	checkReceived(t, silent.await(len(flood)), flood)
	s.awaitIdle()
}
