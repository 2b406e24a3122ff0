package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stand is how an endpoint stands, as the API says.
type stand struct {
	State          string  `json:"state"`
	PausedUntil    *string `json:"paused_until"`
	FailingSince   *string `json:"failing_since"`
	DisabledReason string  `json:"disabled_reason"`
	Backlog        int     `json:"backlog"`
}

func (c *client) stand(endpoint string) (s stand) {
	c.s.t.Helper()
	c.do(http.StatusOK, "GET", "/api/v1/webhooks/"+endpoint, "").decode(c.s.t, &s)
	return s
}

// TestPaceSettings: how deliveries are to travel can be set when an endpoint is
// made, changed one by one, and taken back.
func TestPaceSettings(t *testing.T) {
	t.Parallel()
	s := newAPI(t, nil)
	acme := s.client("acme", "admin")
	type pace struct {
		RateLimit   json.Number `json:"rate_limit"`
		MaxInFlight int         `json:"max_in_flight"`
		Ordering    string      `json:"ordering"`
		OnDisable   string      `json:"on_disable"`
		State       string      `json:"state"`
	}
	type made struct {
		ID string
		pace
	}
	var e made
	acme.do(http.StatusCreated, "POST", "/api/v1/webhooks",
		`{"url":"https://x.com/","events":["lead.created"],"rate_limit":2.5,"max_in_flight":1,"ordering":"fifo","on_disable":"drop"}`).decode(t, &e)
	if want := (pace{"2.5", 1, "fifo", "drop", ""}); e.pace != want {
		t.Errorf("created %+v, want %+v", e.pace, want)
	}
	path := "/api/v1/webhooks/" + e.ID
	for _, tt := range []struct {
		change string
		want   pace
	}{
		{`{}`, pace{"2.5", 1, "fifo", "drop", "active"}},
		{`{"rate_limit":10000,"max_in_flight":null}`, pace{"10000", 0, "fifo", "drop", "active"}},
		{`{"ordering":"none","max_in_flight":1000,"on_disable":"hold"}`, pace{"10000", 1000, "", "", "active"}},
		{`{"rate_limit":null,"ordering":null,"on_disable":null}`, pace{"", 1000, "", "", "active"}},
		{`{"enabled":false,"on_disable":"drop"}`, pace{"", 1000, "", "drop", "disabled"}},
	} {
		for _, answer := range []*response{acme.do(http.StatusOK, "PATCH", path, tt.change), acme.do(http.StatusOK, "GET", path, "")} {
			var got made
			answer.decode(t, &got)
			if got.pace != tt.want {
				t.Errorf("%s: %+v, want %+v", tt.change, got.pace, tt.want)
			}
		}
	}
	acme.do(http.StatusUnprocessableEntity, "PATCH", path, `{"ordering":"fifo"}`).problem(t, http.StatusUnprocessableEntity, "invalid")
}

// TestDisabledHolds: events for a disabled endpoint wait in its backlog and are
// counted, unless it is to drop them.
func TestDisabledHolds(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	held := acme.subscribe(r.url(), "lead.created")
	dropped := acme.subscribe(r.url(), "lead.created")
	acme.patch(held.ID, `{"enabled":false}`)
	acme.patch(dropped.ID, `{"enabled":false,"on_disable":"drop"}`)

	for n := 1; n <= 3; n++ {
		acme.publish(1, "lead.created", fmt.Sprint(n))
		if diff := cmp.Diff(stand{State: "disabled", Backlog: n}, acme.stand(held.ID)); diff != "" {
			t.Errorf("after %d events the endpoint that holds stands so (-want +got):\n%s", n, diff)
		}
	}
	acme.publishBatch(1000, "lead.created")
	if n := acme.stand(held.ID).Backlog; n != 1003 {
		t.Errorf("%d deliveries are held, want 1003", n)
	}
	if diff := cmp.Diff(stand{State: "disabled"}, acme.stand(dropped.ID)); diff != "" {
		t.Errorf("the endpoint that drops stands so (-want +got):\n%s", diff)
	}
	if n := s.metric("gateway", "sealpost_publish_parked_total"); n != 1003 {
		t.Errorf("%v deliveries are counted as parked, want 1003", n)
	}
	acme.patch(held.ID, `{"on_disable":"drop"}`)
	acme.publish(0, "lead.created", `4`)
	s.awaitIdle()
	if got := r.all(); len(got) != 0 || len(acme.deliveries(dropped.ID)) != 0 {
		t.Errorf("%d requests to disabled endpoints", len(got))
	}
}

// TestSystemEvents: that an endpoint was disabled or enabled reaches the others
// that subscribe to it, signed with their own secret, and nobody else.
func TestSystemEvents(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	watching, itself, foreign := newReceiver(t, s.ca, nil), newReceiver(t, s.ca, nil), newReceiver(t, s.ca, nil)
	watcher := acme.subscribe(watching.url(), "sealpost.endpoint.disabled", "sealpost.endpoint.enabled")
	e := acme.subscribe(itself.url()+"?token=hidden", "lead.created", "sealpost.endpoint.disabled", "sealpost.endpoint.enabled")
	s.client("other", "admin,publish").subscribe(foreign.url(), "sealpost.endpoint.disabled", "sealpost.endpoint.enabled")

	acme.patch(e.ID, `{"enabled":false}`)
	watching.await(1)
	acme.patch(e.ID, `{"enabled":false}`) // it is
	acme.patch(e.ID, `{"enabled":true}`)
	got := watching.await(2)
	s.awaitIdle()
	for i, want := range []string{"sealpost.endpoint.disabled", "sealpost.endpoint.enabled"} {
		if !verifies(t, watcher.SigningSecret, &got[i]) {
			t.Errorf("%s does not verify", want)
		}
		var body struct {
			Type      string
			Timestamp time.Time
			Data      map[string]any
		}
		if err := json.Unmarshal(got[i].body, &body); err != nil {
			t.Fatalf("%s: %v", got[i].body, err)
		}
		data := map[string]any{"endpoint_id": e.ID, "url": itself.url(), "reason": "requested"}
		if diff := cmp.Diff(data, body.Data); diff != "" || body.Type != want || body.Timestamp.IsZero() {
			t.Errorf("%s, want %s; data (-want +got):\n%s", got[i].body, want, diff)
		}
	}
	if n := len(watching.all()); n != 2 {
		t.Errorf("%d announcements, want 2", n)
	}
	if rows := acme.deliveries(watcher.ID); len(rows) != 2 || rows[0].Event != "sealpost.endpoint.enabled" || rows[0].Status != "delivered" {
		t.Errorf("rows %+v", rows)
	}
	if a, b := len(itself.all()), len(foreign.all()); a != 0 || b != 0 {
		t.Errorf("%d announcements reached the endpoint itself and %d another organization", a, b)
	}
	if n := s.metric("gateway", "sealpost_gateway_announcements_total", `result="stored"`); n != 2 {
		t.Errorf("%v announcements are counted as stored, want 2", n)
	}
	for _, name := range []string{"sealpost.endpoint.disabled", "sealpost.anything"} {
		p := acme.do(http.StatusUnprocessableEntity, "POST", "/api/v1/events", fmt.Sprintf(`{"type":%q,"data":1}`, name)).
			problem(t, http.StatusUnprocessableEntity, "invalid")
		if p.field() != "type" || !strings.Contains(p.Detail, "only Sealpost") {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
