package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestMaxAge: what is too old when a sender comes to it is not sent, and what
// could only be sent again too late is given up at once.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	s := prepareSystem(t, map[string]string{"SEALPOST_RETRY_BASE": "5m", "SEALPOST_RETRY_CAP": "5m"})
	s.startGateway()
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	failing := newReceiver(t, s.ca, answers(500))
	strict := acme.subscribe(r.url(), "lead.created")
	acme.patch(strict.ID, `{"max_age":"1s"}`)
	patient := acme.subscribe(r.url(), "lead.updated")
	broken := acme.subscribe(failing.url(), "review.requested")
	publish := func(eventType, age string) string {
		var accepted struct{ ID string }
		acme.do(http.StatusAccepted, "POST", "/api/v1/events", fmt.Sprintf(`{"type":%q,"max_age":%q,"data":{}}`, eventType, age)).decode(t, &accepted)
		return accepted.ID
	}
	stale := publish("lead.created", "1h")
	old, young := publish("lead.updated", "1s"), publish("lead.updated", "1h")
	ageless := acme.publish(1, "lead.updated", "{}")
	hurried := publish("review.requested", "4m") // the first wait is at least that
	time.Sleep(time.Second)                      // there is no sender yet

	s.startSender()
	s.awaitIdle()
	checkReceived(t, r.all(), []string{young, ageless})
	if n := len(failing.all()); n != 1 {
		t.Errorf("%d requests for what fails, want 1", n)
	}
	for _, tt := range []struct{ endpoint, event string }{{strict.ID, stale}, {patient.ID, old}, {broken.ID, hurried}} {
		if dead := s.deadLetters(tt.endpoint); len(dead) != 1 || dead[tt.event] != "expired" {
			t.Errorf("dead letters %v, want %s for expired", dead, tt.event)
		}
	}
	rows := acme.deliveries(broken.ID)
	if len(rows) != 1 || rows[0].Status != "failed" || text(rows[0].Error) != "status_5xx" || rows[0].NextAttemptAt != nil {
		t.Errorf("rows %+v, want one attempt that failed for good", rows)
	}
	if row := acme.deliveries(strict.ID)[0]; row.Status != "failed" || text(row.Error) != "expired" || row.ResponseStatus != nil {
		t.Errorf("row %+v, want failed as expired without a response", row)
	}
}
