package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// trial is what a test of an endpoint is answered with.
type trial struct {
	EventID        string  `json:"event_id"`
	Status         string  `json:"status"`
	ResponseStatus int     `json:"response_status"`
	Error          *string `json:"error"`
	Address        string  `json:"address"`
	Timings        *struct {
		TLS   float64 `json:"tls_ms"`
		Total float64 `json:"total_ms"`
	} `json:"timings"`
}

// test tests an endpoint, once that is allowed.
func (c *client) test(endpoint string) (got trial) {
	c.s.t.Helper()
	c.s.eventually("a test is allowed again", func() bool {
		a, err := c.try("POST", "/api/v1/webhooks/"+endpoint+"/test", "")
		if err != nil {
			c.s.t.Fatal(err)
		}
		if a.status == http.StatusTooManyRequests {
			return false
		}
		if a.status != http.StatusOK {
			c.s.t.Fatalf("%d %s", a.status, a.body)
		}
		a.decode(c.s.t, &got)
		return true
	})
	return got
}

// TestTestEvent: an endpoint is tested by a signed request that leaves nothing behind,
// once a second, and not where no delivery may go.
func TestTestEvent(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(200, 503))
	e := acme.subscribe(r.url(), "lead.created")
	got := acme.test(e.ID)
	request := r.await(1)[0]
	if got.Status != "delivered" || got.ResponseStatus != 200 || got.Error != nil || got.Address != "loopback" || got.Timings == nil || got.Timings.TLS <= 0 || got.Timings.Total <= got.Timings.TLS {
		t.Errorf("tested: %+v", got)
	}
	if request.id() != got.EventID || !verifies(t, e.SigningSecret, &request) || !strings.HasPrefix(string(request.body), `{"type":"sealpost.test",`) {
		t.Errorf("request %s %s", request.id(), request.body)
	}
	got = acme.test(e.ID)
	if got.Status != "failed" || text(got.Error) != "status_5xx" || got.ResponseStatus != 503 {
		t.Errorf("tested: %+v", got)
	}
	if rows := acme.deliveries(e.ID); len(rows) != 0 {
		t.Errorf("%d rows in the log", len(rows))
	}
	// The gateway's own admin listener, inside the networks that are allowed.
	own := acme.subscribe(strings.Replace(s.admin["gateway"], "http:", "https:", 1)+"/metrics", "lead.created")
	if got = acme.test(own.ID); got.Status != "failed" || text(got.Error) != "blocked_address" || got.Timings != nil || got.Address != "" {
		t.Errorf("tested what may not be reached: %+v", got)
	}
	acme.patch(e.ID, `{"enabled":false}`)
	acme.do(http.StatusConflict, "POST", "/api/v1/webhooks/"+e.ID+"/test", "").problem(t, http.StatusConflict, "conflict")
	s.awaitIdle()
	if n := len(r.all()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}
