package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// refusalLimit bounds how long an event may wait for its 503. The contract says two
// seconds, measured at the gateway; the rest is for two processes that share a
// busy machine with other tests.
const refusalLimit = 2500 * time.Millisecond

// redisFaults are the ways in which Redis can be away.
var redisFaults = []struct {
	name       string
	begin, end func(*redistest.Server)
}{
	{"killed", (*redistest.Server).Kill, (*redistest.Server).Restart},
	{"frozen", (*redistest.Server).Pause, (*redistest.Server).Resume},
}

// TestRedisDown: what cannot be stored is refused in time, and the same request
// repeated with its key becomes one event once Redis is back.
func TestRedisDown(t *testing.T) {
	t.Parallel()
	for _, fault := range redisFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil, redistest.WithAppendOnly("always"))
			acme := s.client("acme", "admin,publish")
			r := newReceiver(t, s.ca, nil)
			e := acme.subscribe(r.url(), "lead.created")
			before := acme.publish(1, "lead.created", `"before"`)
			r.await(1)

			fault.begin(s.redis)
			const body = `{"type":"lead.created","data":"during"}`
			for i := range 3 { // the first one meets open connections, the others none
				acme.refused(t, body, fmt.Sprintf("key-%d", i))
			}
			for _, program := range []string{"gateway", "sender"} {
				s.eventually(program+" is not ready", func() bool { return s.status(program, "/readyz") == http.StatusServiceUnavailable })
				if got := s.status(program, "/healthz"); got != http.StatusOK {
					t.Errorf("/healthz of the %s: %d, want 200: it is Redis that fails", program, got)
				}
			}
			fault.end(s.redis)

			s.awaitReady("gateway")
			s.awaitReady("sender")
			events := []string{before}
			for i := range 3 {
				events = append(events, acme.persist(t, body, fmt.Sprintf("key-%d", i)))
			}
			s.awaitIdle()
			// Delivered at least once: a repeated webhook-id is the worst that a
			// retry may cause, a second event never.
			times := tally(r.all())
			for _, id := range events {
				if times[id] == 0 {
					t.Errorf("the event %s never came", id)
				}
			}
			if len(times) != len(events) {
				t.Errorf("%d different events came, want %d: %v", len(times), len(events), times)
			}
			got := r.all()
			for i := range got {
				if !verifies(t, e.SigningSecret, &got[i]) {
					t.Error("a delivery does not verify")
				}
			}
		})
	}
}

// refused publishes and has to be told in time that this is not confirmed.
func (c *client) refused(t *testing.T, body, key string) {
	t.Helper()
	began := time.Now()
	r, err := c.try("POST", "/api/v1/events", body, "Idempotency-Key", key)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > refusalLimit {
		t.Errorf("the answer %d came after %v, want at most %v", r.status, took, refusalLimit)
	}
	r.problem(t, http.StatusServiceUnavailable, "unavailable")
	if seconds, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("Retry-After %q, want seconds", r.header.Get("Retry-After"))
	}
}

// persist publishes as a producer should: until it is confirmed, with the same
// key. It returns the event's id, which a further request has to get as well.
func (c *client) persist(t *testing.T, body, key string) string {
	t.Helper()
	var last *response
	c.s.eventually("the event is accepted", func() bool {
		r, err := c.try("POST", "/api/v1/events", body, "Idempotency-Key", key)
		if err != nil {
			t.Fatal(err)
		}
		last = r
		switch r.status {
		case http.StatusAccepted:
			return true
		case http.StatusConflict, http.StatusServiceUnavailable: // the first request may still hold the key
			return false
		}
		t.Fatalf("answer %d %s", r.status, r.body)
		return false
	})
	again := c.do(http.StatusAccepted, "POST", "/api/v1/events", body, "Idempotency-Key", key)
	if string(again.body) != string(last.body) {
		t.Errorf("the same key is answered %s and then %s", last.body, again.body)
	}
	var accepted struct{ ID string }
	last.decode(t, &accepted)
	return accepted.ID
}

// status returns the status of a page of a program's admin listener.
func (s *system) status(program, path string) int {
	s.t.Helper()
	resp, err := http.Get(s.admin[program] + path)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestRedisRestartKeepsWaiting: deliveries and retries that wait in Redis are
// there when it comes back.
func TestRedisRestartKeepsWaiting(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_BASE": "3s"}, redistest.WithAppendOnly("always"))
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(500, 204))
	e := acme.subscribe(r.url(), "lead.created")
	failed := acme.publish(1, "lead.created", `1`)
	s.eventually("the first attempt is in the log", func() bool { return len(acme.deliveries(e.ID)) == 1 })
	if status := s.sender.stop(); status != 0 {
		t.Errorf("exit status %d after SIGTERM, want 0", status)
	}
	events := append(acme.publishBatch(100, "lead.created"), failed)
	s.redis.Restart()
	s.startSender()
	s.awaitReady("gateway")
	r.await(1 + len(events))
	s.awaitIdle()
	checkReceived(t, r.all()[1:], events)
}

// TestRedisDownInMidDelivery: results of attempts that end while Redis is away
// are stored when it is back, and what was not started is sent then, so that
// nothing is lost and nothing is sent twice.
func TestRedisDownInMidDelivery(t *testing.T) {
	t.Parallel()
	for _, fault := range redisFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, map[string]string{"SEALPOST_CONCURRENCY": "16", "SEALPOST_DELIVERY_TIMEOUT": "60s"}, redistest.WithAppendOnly("always"))
			acme := s.client("acme", "admin,publish")
			held := newGate()
			r := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
				held.wait()
				w.WriteHeader(http.StatusNoContent)
			})
			t.Cleanup(held.release)
			e := acme.subscribe(r.url(), "lead.created")
			events := acme.publishBatch(50, "lead.created")
			r.await(8)

			fault.begin(s.redis)
			held.release()
			s.eventually("the sender notices", func() bool { return s.status("sender", "/readyz") == http.StatusServiceUnavailable })
			fault.end(s.redis)

			r.await(len(events))
			s.awaitIdle()
			checkReceived(t, r.all(), events)
			s.awaitReady("gateway")
			rows := acme.deliveries(e.ID)
			for _, row := range rows {
				if row.Attempt != 1 || row.Status != "delivered" {
					t.Errorf("row %+v, want delivered at attempt 1", row)
				}
			}
			if len(rows) != len(events) {
				t.Errorf("%d rows in the log, want %d", len(rows), len(events))
			}
		})
	}
}
