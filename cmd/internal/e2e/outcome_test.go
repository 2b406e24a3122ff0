package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// canary is a listener that nobody should ever reach.
type canary struct {
	listener net.Listener
	touched  atomic.Int64
	closed   sync.WaitGroup
}

func newCanary(t *testing.T, address string) *canary {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &canary{listener: listener}
	c.closed.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.touched.Add(1)
			conn.Close()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		c.closed.Wait()
	})
	return c
}

// url returns an https URL that leads to the canary through the given host.
func (c *canary) url(host string) string {
	_, port, _ := net.SplitHostPort(c.listener.Addr().String())
	return "https://" + net.JoinHostPort(host, port) + "/hook"
}

// connections returns how many connections it got. Its own connection comes
// last, so none is counted too late.
func (c *canary) connections(t *testing.T) int64 {
	t.Helper()
	conn, err := net.Dial("tcp", c.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Logf("the canary's farewell: %v", err)
	}
	return c.touched.Load() - 1
}

// TestGone: 410 disables the endpoint, what waits for it becomes dead letters if
// it is to be dropped, and the customer can enable it again.
func TestGone(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(500, 410, 204))
	e := acme.subscribe(r.url(), "lead.created")
	acme.patch(e.ID, `{"on_disable":"drop"}`)
	waiting := acme.publish(1, "lead.created", `{"waits":"for its second attempt"}`)
	r.await(1)
	s.eventually("the first attempt has its row", func() bool { return len(acme.deliveries(e.ID)) == 1 })
	refused := acme.publish(1, "lead.created", `{"answered":410}`)
	r.await(2)

	var now endpoint
	s.eventually("the endpoint is disabled", func() bool {
		acme.do(http.StatusOK, "GET", "/api/v1/webhooks/"+e.ID, "").decode(t, &now)
		return !now.Enabled
	})
	acme.publish(0, "lead.created", `{"published":"while disabled"}`)
	s.awaitIdle()
	if n := len(r.all()); n != 2 {
		t.Errorf("%d requests, want no more than the two before the endpoint was disabled", n)
	}
	dead := s.deadLetters(e.ID)
	if len(dead) != 2 || dead[refused] != "status_410" || dead[waiting] != "disabled" {
		t.Errorf("dead letters %v, want %s for status_410 and %s for disabled", dead, refused, waiting)
	}
	rows := acme.deliveries(e.ID)
	if len(rows) != 3 {
		t.Fatalf("%d rows, want 3: %+v", len(rows), rows)
	}
	if row := rows[0]; row.EventID != waiting || row.Status != "failed" || text(row.Error) != "disabled" || row.ResponseStatus != nil || row.NextAttemptAt != nil {
		t.Errorf("newest row %+v, want the waiting event failed as disabled without a response", row)
	}
	if row := rows[1]; row.EventID != refused || row.Status != "failed" || text(row.Error) != "status_410" || row.ResponseStatus == nil || *row.ResponseStatus != 410 {
		t.Errorf("second row %+v, want the refused event failed with 410", row)
	}

	if e := acme.patch(e.ID, `{"enabled":true}`); !e.Enabled {
		t.Error("PATCH does not enable the endpoint")
	}
	again := acme.publish(1, "lead.created", `{"published":"after enabling"}`)
	if got := r.await(3)[2].id(); got != again {
		t.Errorf("webhook-id %q after enabling, want %q", got, again)
	}
}

// TestDisableAsked: a response header disables the endpoint too, and a 2xx that
// carries it has delivered all the same.
func TestDisableAsked(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	for _, tt := range []struct {
		eventType, value string
		status           int
		row, error       string
		dead             int
	}{
		{"lead.created", "disable", 204, "delivered", "null", 0},
		{"lead.updated", "Disable", 503, "failed", "disable_asked", 1},
	} {
		r := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
			w.Header().Set("Webhook-Delivery", tt.value)
			w.WriteHeader(tt.status)
		})
		e := acme.subscribe(r.url(), tt.eventType)
		acme.patch(e.ID, `{"on_disable":"drop"}`)
		id := acme.publish(1, tt.eventType, "{}")
		var now endpoint
		s.eventually("the endpoint is disabled", func() bool {
			acme.do(http.StatusOK, "GET", "/api/v1/webhooks/"+e.ID, "").decode(t, &now)
			return !now.Enabled
		})
		acme.publish(0, tt.eventType, "{}")
		s.awaitIdle()
		if n := len(r.all()); n != 1 {
			t.Errorf("%d: %d requests, want 1", tt.status, n)
		}
		rows := acme.deliveries(e.ID)
		if len(rows) != 1 || rows[0].Status != tt.row || text(rows[0].Error) != tt.error || *rows[0].ResponseStatus != tt.status {
			t.Errorf("%d: rows %+v, want one %s with error %s", tt.status, rows, tt.row, tt.error)
		}
		if dead := s.deadLetters(e.ID); len(dead) != tt.dead || tt.dead > 0 && dead[id] != tt.error {
			t.Errorf("%d: dead letters %v", tt.status, dead)
		}
	}
	if n := s.metric("sender", "sealpost_sender_endpoints_disabled_total"); n != 2 {
		t.Errorf("%v endpoints are counted as disabled, want 2", n)
	}
}

// TestRedirectsAreNotFollowed: a redirect is a failure, wherever it leads.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "2"})
	acme := s.client("acme", "admin,publish")
	trap := newCanary(t, "127.0.0.1:0")
	statuses := []int{301, 302, 303, 307, 308}
	r := newReceiver(t, s.ca, func(n int, _ *received, w http.ResponseWriter) {
		w.Header().Set("Location", trap.url("127.0.0.1"))
		w.WriteHeader(statuses[min(n, len(statuses))-1])
	})
	e := acme.subscribe(r.url(), "lead.created")
	for i := range statuses {
		acme.publish(1, "lead.created", fmt.Sprint(i))
		r.await(i + 1)
	}
	s.awaitIdle()
	if n := trap.connections(t); n != 0 {
		t.Errorf("redirects were followed %d times", n)
	}
	rows := acme.deliveries(e.ID)
	if len(rows) != 2*len(statuses) {
		t.Errorf("%d rows, want %d", len(rows), 2*len(statuses))
	}
	seen := make(map[int]bool)
	for _, row := range rows {
		if text(row.Error) != "redirect" || row.ResponseStatus == nil || row.Status == "delivered" {
			t.Fatalf("row %+v, want a failure with error redirect", row)
		}
		seen[*row.ResponseStatus] = true
	}
	if len(seen) != len(statuses) {
		t.Errorf("statuses in the log: %v, want %d", seen, statuses)
	}
}

// TestFailuresWithoutResponse: each way to get no response has its own reason.
func TestFailuresWithoutResponse(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_DELIVERY_TIMEOUT": "1s", "SEALPOST_RETRY_MAX_ATTEMPTS": "1"})
	acme := s.client("acme", "admin,publish")

	held := newGate()
	slow := newReceiver(t, s.ca, func(int, *received, http.ResponseWriter) { held.wait() })
	t.Cleanup(held.release)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and that is all
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	cut := newReceiver(t, s.ca, func(int, *received, http.ResponseWriter) { panic(http.ErrAbortHandler) })
	stranger := newReceiver(t, newAuthority(t), nil)
	hangingUp := newCanary(t, "127.0.0.1:0")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	for _, test := range []struct {
		name, event, url, reason string
	}{
		{"a receiver that does not answer in time", "call.received", slow.url(), "timeout"},
		{"a peer that never speaks", "call.classified", "https://" + silent.Addr().String() + "/", "timeout"},
		{"a connection that is cut after the request", "call.qualified", cut.url(), "connection_lost"},
		{"a certificate of an unknown authority", "lead.created", stranger.url(), "tls"},
		{"a peer that hangs up during the handshake", "lead.updated", hangingUp.url("127.0.0.1"), "tls"},
		{"a closed port", "review.requested", "https://" + closed.Addr().String() + "/", "connect"},
		{"a name that does not exist", "review.received", "https://nowhere.onion/", "dns"}, // known without asking any server
	} {
		e := acme.subscribe(test.url, test.event)
		id := acme.publish(1, test.event, `{}`)
		s.eventually(test.name+" is in the log", func() bool { return len(acme.deliveries(e.ID)) == 1 })
		row := acme.deliveries(e.ID)[0]
		if row.Status != "failed" || text(row.Error) != test.reason || row.ResponseStatus != nil {
			t.Errorf("%s: row %+v with error %s, want failed with error %s", test.name, row, text(row.Error), test.reason)
		}
		if dead := s.deadLetters(e.ID); dead[id] != test.reason {
			t.Errorf("%s: dead letters %v", test.name, dead)
		}
		if n := s.metric("sender", "sealpost_sender_attempt_failures_total", fmt.Sprintf("reason=%q", test.reason)); n == 0 {
			t.Errorf("%s: no failure is counted with reason %s", test.name, test.reason)
		}
	}
	if n := len(stranger.all()); n != 0 {
		t.Errorf("the receiver with the unknown certificate got %d requests", n)
	}
}
