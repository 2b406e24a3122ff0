package e2e

import (
	"net/http"
	"testing"
)

// TestDeliveredComesBack: while its payload is kept, what was delivered is delivered once
// more when it is replayed, as a delivery of its own; what kept it goes with the endpoint.
func TestDeliveredComesBack(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_PAYLOAD_RETENTION": "1h"})
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(204))
	e := acme.subscribe(r.url(), "lead.created")
	hook := "/api/v1/webhooks/" + e.ID
	event := acme.publish(1, "lead.created", `{"n":"first"}`)
	first := r.await(1)[0]
	s.eventually("the delivery is noted", func() bool { return len(acme.deliveries(e.ID)) == 1 })
	delivery := acme.deliveries(e.ID)[0].ID

	var replayed struct {
		ID       string
		ReplayOf string `json:"replay_of"`
		EventID  string `json:"event_id"`
	}
	acme.do(http.StatusAccepted, "POST", hook+"/deliveries/"+delivery+"/replay", "").decode(t, &replayed)
	if replayed.ID == delivery || replayed.ReplayOf != delivery || replayed.EventID != event {
		t.Errorf("replayed %+v", replayed)
	}
	again := r.await(2)[1]
	if again.id() != event || string(again.body) != string(first.body) || !verifies(t, e.SigningSecret, &again) {
		t.Errorf("the replay is %s %s", again.id(), again.body)
	}
	s.eventually("the replay is noted", func() bool { return acme.deliveries(e.ID)[0].ID == replayed.ID })
	if row := acme.deliveries(e.ID)[0]; row.Status != "delivered" || row.Attempt != 1 {
		t.Errorf("its row is %+v", row)
	}

	acme.do(http.StatusOK, "DELETE", hook, "")
	s.awaitIdle()
	if keys := s.keysOf(e.ID); len(keys) != 0 {
		t.Errorf("left behind: %q", keys)
	}
}
