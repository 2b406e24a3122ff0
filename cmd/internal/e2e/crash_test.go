package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recovery bounds the wait for what was put off for half a minute.
const recovery = 4 * time.Minute

// takeover bounds the wait for what a killed sender had taken: its leases end 25
// to 30 s after its death, and 3 to 8 s later another sender takes over.
const takeover = 45 * time.Second

// TestSenderKilled: SIGKILL in the middle of deliveries loses nothing, spends no
// attempt, repeats at most what was in flight or not yet noted, and is made up
// for within 45 s.
func TestSenderKilled(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_CONCURRENCY": "16", "SEALPOST_DELIVERY_TIMEOUT": "60s"})
	acme := s.client("acme", "admin,publish")
	held := newGate()
	holding := newReceiver(t, s.ca, func(n int, _ *received, w http.ResponseWriter) {
		if n == 1 {
			held.wait() // its sender is killed meanwhile
		}
		w.WriteHeader(http.StatusNoContent)
	})
	t.Cleanup(held.release)
	bursting := newReceiver(t, s.ca, thoughtful)
	one := acme.subscribe(holding.url(), "call.received")
	many := acme.subscribe(bursting.url(), "lead.created")

	single := acme.publish(1, "call.received", `{"held":true}`)
	holding.await(1)
	const burst = 500
	events := acme.publishBatch(burst, "lead.created")
	bursting.await(burst / 4)
	s.sender.kill()
	before := len(bursting.all())
	if before >= burst {
		t.Fatalf("all %d requests were out before the sender was killed", before)
	}
	killed := time.Now()
	s.startSender()

	got := holding.awaitFor(2, takeover)
	bursting.awaitFor(burst, time.Until(killed.Add(takeover)))
	took := time.Since(killed).Round(time.Second)
	s.awaitIdleWithin(time.Minute)
	if len(got) != 2 || got[0].id() != single || got[1].id() != single || !verifies(t, one.SigningSecret, &got[1]) {
		t.Errorf("%d requests at the receiver that was held, webhook-ids %q and %q, want 2 with %q", len(got), got[0].id(), got[1].id(), single)
	}
	rows := acme.deliveries(one.ID)
	if len(rows) != 1 || rows[0].Attempt != 1 || rows[0].Status != "delivered" {
		t.Errorf("rows %+v, want one delivered at attempt 1: nobody knows what became of the killed one", rows)
	}
	requests := bursting.all()
	times := tally(requests)
	for _, id := range events {
		if times[id] == 0 {
			t.Fatalf("the event %s is lost", id)
		}
	}
	repeated := len(requests) - burst
	t.Logf("%d of %d deliveries were out when the sender was killed; %d were repeated; all were out %v later", before, burst, repeated, took)
	if repeated >= before {
		t.Errorf("%d deliveries were repeated although only %d were out: nothing was noted", repeated, before)
	}
	for _, row := range acme.deliveries(many.ID) {
		if row.Attempt != 1 || row.Status != "delivered" {
			t.Fatalf("row %+v, want delivered at attempt 1", row)
		}
	}
}

// TestSenderStopped: on SIGTERM attempts in flight are finished and the rest
// goes back, to be delivered by the next sender; nothing is sent twice.
func TestSenderStopped(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_CONCURRENCY": "8", "SEALPOST_DELIVERY_TIMEOUT": "60s"})
	acme := s.client("acme", "admin,publish")
	held := newGate()
	r := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
		held.wait()
		w.WriteHeader(http.StatusNoContent)
	})
	t.Cleanup(held.release)
	e := acme.subscribe(r.url(), "lead.created")
	events := acme.publishBatch(50, "lead.created") // one bundle
	for range 50 {
		events = append(events, acme.publish(1, "lead.created", `{}`)) // and one task each
	}
	r.await(4)

	s.sender.signal(syscall.SIGTERM)
	s.sender.await("that it stops", func(line string) bool { return strings.Contains(line, `"stopping"`) })
	held.release()
	if status := s.sender.exited(); status != 0 {
		t.Errorf("exit status %d after SIGTERM, want 0", status)
	}
	early := len(r.all())
	if early >= len(events) {
		t.Fatalf("the first sender made all %d requests, want it to stop before", early)
	}

	s.startSender()
	r.await(len(events))
	s.awaitIdle()
	t.Logf("%d of %d deliveries were made by the first sender", early, len(events))
	checkReceived(t, r.all(), events)
	for _, row := range acme.deliveries(e.ID) {
		if row.Attempt != 1 || row.Status != "delivered" {
			t.Fatalf("row %+v, want delivered at attempt 1", row)
		}
	}
}

// TestSendersShare: two senders share the work, and one that is stopped in the
// middle leaves it to the other; nothing is sent twice.
func TestSendersShare(t *testing.T) {
	t.Parallel()
	s := newSystem(t, fewSlots)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, thoughtful)
	acme.subscribe(r.url(), "lead.created")
	first := s.sender
	s.startSender()
	var events []string
	for range 10 { // tasks in every queue
		events = append(events, acme.publishBatch(50, "lead.created")...)
	}
	r.await(len(events) / 4)
	if status := first.stop(); status != 0 {
		t.Errorf("exit status %d after SIGTERM, want 0", status)
	}
	r.await(len(events))
	s.awaitIdle()
	checkReceived(t, r.all(), events)
	if n := s.metric("sender", "sealpost_sender_deliveries_total", `status="delivered"`); n == 0 || int(n) == len(events) {
		t.Errorf("the second sender made %v of %d deliveries, want a part", n, len(events))
	}
}

// TestGatewayGone: what was answered 202 before a gateway ends, gracefully or
// not, is delivered once.
func TestGatewayGone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, p *process){
		"stopped": func(t *testing.T, p *process) {
			if status := p.stop(); status != 0 {
				t.Errorf("exit status %d after SIGTERM, want 0", status)
			}
		},
		"killed": func(_ *testing.T, p *process) { p.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			acme := s.client("acme", "admin,publish")
			r := newReceiver(t, s.ca, nil)
			acme.subscribe(r.url(), "lead.created")
			events := acme.startFlow(4, "lead.created")
			r.await(50)
			end(t, s.gateway)
			events.halt() // what was not answered is the producer's to repeat
			s.startGateway()
			last := acme.publish(1, "lead.created", `{}`)
			s.awaitIdle()
			times := tally(r.all())
			for _, id := range append(events.accepted, last) {
				if times[id] != 1 {
					t.Errorf("the event %s was accepted and came %d times", id, times[id])
				}
			}
		})
	}
}

// TestWrongMasterKey: a sender that cannot derive the secrets sends nothing,
// says so, and spends no attempt.
func TestWrongMasterKey(t *testing.T) {
	t.Parallel()
	s := prepareSystem(t, nil)
	s.startGateway()
	right := s.env["SEALPOST_MASTER_KEYS"]
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	e := acme.subscribe(r.url(), "lead.created")

	var events []string
	for _, wrong := range []string{
		newMasterKey(), // another key of the same name
		"k2:" + strings.TrimPrefix(newMasterKey(), "k1:"), // no key of that name
	} {
		s.env["SEALPOST_MASTER_KEYS"] = wrong
		s.startSender()
		events = append(events, acme.publish(1, "lead.created", `{}`), acme.publish(1, "lead.created", `{}`))
		s.sender.await("an error that names endpoint and key", func(line string) bool {
			return strings.Contains(line, `"level":"ERROR"`) && strings.Contains(line, e.ID) && strings.Contains(line, "k1")
		})
		s.eventually("mismatches are counted", func() bool { return s.metric("sender", "sealpost_sender_key_mismatches_total") > 0 })
		if status := s.sender.stop(); status != 0 {
			t.Errorf("exit status %d after SIGTERM, want 0", status)
		}
	}
	if rows := acme.deliveries(e.ID); len(rows) != 0 {
		t.Errorf("attempts were spent: %+v", rows)
	}
	if n := len(r.all()); n != 0 {
		t.Fatalf("%d requests were sent without the right key", n)
	}

	s.env["SEALPOST_MASTER_KEYS"] = right
	s.startSender()
	requests := r.awaitFor(len(events), recovery) // they were put off for half a minute
	s.awaitIdle()
	checkReceived(t, requests, events)
	for i := range requests {
		if !verifies(t, e.SigningSecret, &requests[i]) {
			t.Error("a delivery does not verify under the right key")
		}
	}
	for _, row := range acme.deliveries(e.ID) {
		if row.Attempt != 1 || row.Status != "delivered" {
			t.Errorf("row %+v, want delivered at attempt 1", row)
		}
	}
}
