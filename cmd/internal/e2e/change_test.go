package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// latest returns when the last of the requests came.
func latest(requests []received) time.Time {
	var at time.Time
	for i := range requests {
		if requests[i].at.After(at) {
			at = requests[i].at
		}
	}
	return at
}

// thoughtful is an answer function of a receiver that needs a moment for each
// request, so that deliveries wait for it.
func thoughtful(_ int, _ *received, w http.ResponseWriter) {
	time.Sleep(10 * time.Millisecond)
	w.WriteHeader(http.StatusNoContent)
}

// fewSlots lets deliveries pile up: 4 at a time, 10 ms each.
var fewSlots = map[string]string{"SEALPOST_CONCURRENCY": "4"}

// backlog is how many deliveries wait when something is changed under way: over
// two seconds' worth, so that many are left when the change is answered.
const backlog = 1000

// TestDeleteWhileEventsFlow: once DELETE has answered, no request begins.
func TestDeleteWhileEventsFlow(t *testing.T) {
	t.Parallel()
	s := newSystem(t, fewSlots)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, thoughtful)
	other := newReceiver(t, s.ca, nil)
	e := acme.subscribe(r.url(), "call.received")
	acme.subscribe(other.url(), "lead.created")
	accepted := len(acme.publishBatch(backlog, "call.received"))
	pace := startMetronome(t)
	events := acme.startFlow(2, "call.received")
	r.await(50)

	acme.do(http.StatusOK, "DELETE", "/api/v1/webhooks/"+e.ID, "")
	answered := time.Now()

	acme.publish(0, "call.received", `{}`)
	acme.publish(1, "lead.created", `{}`) // the sender goes on for others
	other.await(1)
	accepted += len(events.end())
	allowance := pace.allowance()
	s.awaitIdle()
	if late := latest(r.all()).Sub(answered); late > allowance {
		t.Errorf("a request came %v after DELETE had answered; on this machine %v may be seen", late, allowance)
	}
	sent := len(r.all())
	discarded := s.metric("sender", "sealpost_sender_deliveries_total", `status="discarded"`)
	if discarded == 0 || sent+int(discarded) != accepted {
		t.Errorf("%d requests and %v discarded deliveries of %d: want all, some of them discarded", sent, discarded, accepted)
	}
	if keys := s.keysOf(e.ID); len(keys) != 0 {
		t.Errorf("of the deleted endpoint these keys are left: %v", keys)
	}
	acme.do(http.StatusNotFound, "GET", "/api/v1/webhooks/"+e.ID, "")
	acme.do(http.StatusNotFound, "GET", "/api/v1/webhooks/"+e.ID+"/deliveries", "")
}

// TestDeleteForgets: rows, failures and dead letters of a deleted endpoint go,
// also those of requests that were under way when it was deleted.
func TestDeleteForgets(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "1"})
	acme := s.client("acme", "admin,publish")
	held := newGate()
	r := newReceiver(t, s.ca, func(n int, _ *received, w http.ResponseWriter) {
		switch n {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			held.wait()
			w.WriteHeader(http.StatusNoContent)
		default:
			held.wait()
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	t.Cleanup(held.release)
	e := acme.subscribe(r.url(), "call.received")
	acme.publish(1, "call.received", `1`)
	s.eventually("a dead letter", func() bool { return len(s.deadLetters(e.ID)) == 1 })
	s.awaitIdle()
	if keys := s.keysOf(e.ID); len(keys) < 3 {
		t.Fatalf("before the deletion there are only the keys %v", keys)
	}
	for i := range 2 {
		acme.publish(1, "call.received", `2`)
		r.await(i + 2)
	}
	acme.do(http.StatusOK, "DELETE", "/api/v1/webhooks/"+e.ID, "")
	if keys := s.keysOf(e.ID); len(keys) != 0 {
		t.Errorf("when DELETE has answered these keys are left: %v", keys)
	}
	held.release()
	s.awaitIdle()
	if n := len(r.all()); n != 3 {
		t.Errorf("%d requests, want 3: no retry for a deleted endpoint", n)
	}
	if keys := s.keysOf(e.ID); len(keys) != 0 {
		t.Errorf("requests that were under way brought these keys back: %v", keys)
	}
}

// TestMoveWhileEventsFlow: once PATCH has answered another URL, no request
// begins to the old one, and what waits goes to the new one.
func TestMoveWhileEventsFlow(t *testing.T) {
	t.Parallel()
	s := newSystem(t, fewSlots)
	acme := s.client("acme", "admin,publish")
	first := newReceiver(t, s.ca, func(n int, q *received, w http.ResponseWriter) {
		if n == 1 { // its second attempt comes after the move
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		thoughtful(n, q, w)
	})
	second := newReceiver(t, s.ca, nil)
	e := acme.subscribe(first.url(), "call.received")
	failed := acme.publish(1, "call.received", `{}`)
	first.await(1)
	accepted := acme.publishBatch(backlog, "call.received")
	pace := startMetronome(t)
	events := acme.startFlow(2, "call.received")
	first.await(50)

	moved := acme.patch(e.ID, fmt.Sprintf(`{"url":%q}`, second.url()))
	answered := time.Now()
	if moved.URL != second.url() {
		t.Errorf("PATCH answers the URL %q, want %q", moved.URL, second.url())
	}

	second.await(backlog / 4)
	accepted = append(accepted, events.end()...)
	allowance := pace.allowance()
	s.awaitIdle()
	if late := latest(first.all()).Sub(answered); late > allowance {
		t.Errorf("the old URL got a request %v after PATCH had answered; on this machine %v may be seen", late, allowance)
	}
	here, there := first.all()[1:], second.all()
	checkReceived(t, append(here[:len(here):len(here)], there...), append(accepted, failed))
	if tally(there)[failed] != 1 {
		t.Error("the second attempt of what had failed did not go to the new URL")
	}
	for i := range there {
		if !verifies(t, e.SigningSecret, &there[i]) {
			t.Fatal("the secret changed with the URL")
		}
	}
}

// TestDisableWhileEventsFlow: once PATCH has answered, no request begins; what
// waited for an endpoint that drops it is a dead letter, and enabling brings new
// events.
func TestDisableWhileEventsFlow(t *testing.T) {
	t.Parallel()
	s := newSystem(t, fewSlots)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, thoughtful)
	e := acme.subscribe(r.url(), "call.received")
	accepted := acme.publishBatch(backlog, "call.received")
	pace := startMetronome(t)
	events := acme.startFlow(2, "call.received")
	r.await(50)

	if e := acme.patch(e.ID, `{"enabled":false,"on_disable":"drop"}`); e.Enabled {
		t.Error("PATCH answers that the endpoint is enabled")
	}
	answered := time.Now()

	acme.publish(0, "call.received", `{}`)
	accepted = append(accepted, events.end()...)
	allowance := pace.allowance()
	s.awaitIdle()
	sent := r.all()
	if late := latest(sent).Sub(answered); late > allowance {
		t.Errorf("a request came %v after PATCH had answered; on this machine %v may be seen", late, allowance)
	}
	dead := s.deadLetters(e.ID)
	times := tally(sent)
	for _, id := range accepted {
		if (times[id] == 1) == (dead[id] == "disabled") {
			t.Fatalf("the event %s was sent %d times and its dead letter has the reason %q: want one of both", id, times[id], dead[id])
		}
	}
	if len(dead) == 0 {
		t.Error("nothing was left to stop")
	}

	acme.patch(e.ID, `{"enabled":true}`)
	id := acme.publish(1, "call.received", `{}`)
	if got := r.await(len(sent) + 1); got[len(sent)].id() != id {
		t.Errorf("after enabling the event %s came, want %s", got[len(sent)].id(), id)
	}
}

// TestPatchTakesEffect: event types and description.
func TestPatchTakesEffect(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	e := acme.subscribe(r.url(), "call.received")
	acme.publish(1, "call.received", `1`)

	changed := acme.patch(e.ID, `{"events":["lead.created","lead.updated"],"description":"CRM \u00fc"}`)
	if fmt.Sprint(changed.Events) != "[lead.created lead.updated]" || changed.Description != "CRM ü" || changed.URL != r.url() || !changed.Enabled {
		t.Errorf("PATCH answers %+v", changed)
	}
	acme.publish(0, "call.received", `2`)
	acme.publish(1, "lead.created", `3`)
	acme.publish(1, "lead.updated", `4`)
	requests := r.await(3)
	if n := len(tally(requests)); n != 3 {
		t.Errorf("%d different events came, want 3", n)
	}
	for i := range requests {
		if !verifies(t, e.SigningSecret, &requests[i]) {
			t.Error("a delivery after PATCH does not verify")
		}
	}
}
