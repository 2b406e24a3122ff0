package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSignedDelivery is the main job: subscribe, publish, receive, verify.
func TestSignedDelivery(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	e := acme.subscribe(r.url(), "call.qualified", "lead.created")

	id := acme.publish(1, "call.qualified", `{"call":1}`)
	acme.publish(0, "lead.updated", `{}`) // nobody subscribed
	other := acme.publish(1, "lead.created", `{"name":"Zoë 𝄞"}`)
	got := r.await(2)

	for i := range got {
		q := &got[i]
		if q.method != http.MethodPost || q.path != "/hook" || q.header.Get("Content-Type") != "application/json" || !strings.HasPrefix(q.header.Get("User-Agent"), "Sealpost/") {
			t.Errorf("request %s %s, headers %v", q.method, q.path, q.header)
		}
		if q.id() != id && q.id() != other {
			t.Errorf("webhook-id %q is neither %q nor %q", q.id(), id, other)
		}
		at, err := strconv.ParseInt(q.header.Get("webhook-timestamp"), 10, 64)
		if err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
			t.Errorf("webhook-timestamp %q is not the time of the attempt", q.header.Get("webhook-timestamp"))
		}
		if !verifies(t, e.SigningSecret, q) {
			t.Error("the official Go library refuses the signature")
		}
	}

	tampered := got[0]
	tampered.body = append([]byte(" "), tampered.body...)
	const foreign = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	if verifies(t, foreign, &got[0]) || verifies(t, e.SigningSecret, &tampered) {
		t.Error("the official Go library accepts a foreign secret or another body")
	}
	answers := verifiesInNode(t, []check{{e.SigningSecret, &got[0]}, {e.SigningSecret, &got[1]}, {foreign, &got[0]}, {e.SigningSecret, &tampered}})
	if want := fmt.Sprint([]bool{true, true, false, false}); fmt.Sprint(answers) != want {
		t.Errorf("the official JavaScript library answers %v, want %s", answers, want)
	}

	// The log tells it, and so does the endpoint.
	s.eventually("two rows in the log", func() bool { return len(acme.deliveries(e.ID)) == 2 })
	for _, d := range acme.deliveries(e.ID) {
		if d.Status != "delivered" || d.ResponseStatus == nil || *d.ResponseStatus != 204 || d.Attempt != 1 || d.DeliveredAt == nil || d.Error != nil || d.NextAttemptAt != nil || !strings.HasPrefix(d.ID, "whd_") {
			t.Errorf("row %+v", d)
		}
	}
	var now endpoint
	acme.do(http.StatusOK, "GET", "/api/v1/webhooks/"+e.ID, "").decode(t, &now)
	if now.LastDeliveryAt == nil || now.LastDeliveryStatus == nil || *now.LastDeliveryStatus != 204 || now.SigningSecret != "" {
		t.Errorf("the endpoint after its deliveries: %+v", now)
	}
	if n := s.metric("sender", "sealpost_sender_deliveries_total", `status="delivered"`); n != 2 {
		t.Errorf("sealpost_sender_deliveries_total{status=delivered} = %v, want 2", n)
	}
	if n := s.metric("gateway", "sealpost_events_accepted_total"); n != 3 {
		t.Errorf("sealpost_events_accepted_total = %v, want 3", n)
	}
}
