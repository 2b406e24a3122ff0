package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// TestOrganizationsAreApart: what belongs to another organization cannot be
// seen, touched or guessed.
func TestOrganizationsAreApart(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme, other := s.client("acme", "admin,publish"), s.client("other", "admin,publish")
	acmeReceiver, otherReceiver := newReceiver(t, s.ca, nil), newReceiver(t, s.ca, nil)
	hers := acme.subscribe(acmeReceiver.url(), "call.qualified")
	his := other.subscribe(otherReceiver.url(), "call.qualified")
	acme.publish(1, "call.qualified", `"acme"`)
	acmeReceiver.await(1)
	s.eventually("the attempt is recorded", func() bool { return len(acme.deliveries(hers.ID)) == 1 })

	const nobodys = "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14"
	redis := s.redis.Client(t)
	s.awaitIdle()
	before := contents(t, redis)
	for _, tt := range []struct{ method, suffix, body string }{
		{"GET", "", ""}, {"PATCH", "", `{"enabled":false}`}, {"PATCH", "", `{`}, {"DELETE", "", ""},
		{"POST", "/rotate-secret", ""}, {"POST", "/rotate-secret", `{"overlap":"0s"}`}, {"GET", "/deliveries", ""}, {"GET", "/deliveries?limit=1", ""},
	} {
		ask := func(id string) *response {
			t.Helper()
			return other.do(http.StatusNotFound, tt.method, "/api/v1/webhooks/"+id+tt.suffix, tt.body, "X-Request-Id", "same")
		}
		foreign, unknown, malformed := ask(hers.ID), ask(nobodys), ask("17")
		foreign.problem(t, http.StatusNotFound, "not_found")
		for what, r := range map[string]*response{"one that never was": unknown, "a malformed id": malformed} {
			if string(r.body) != string(foreign.body) {
				t.Errorf("%s %s: another organization's is answered with %s, %s with %s", tt.method, tt.suffix, foreign.body, what, r.body)
			}
			if a, b := headerNames(r), headerNames(foreign); a != b {
				t.Errorf("%s %s: headers %s and %s", tt.method, tt.suffix, a, b)
			}
		}
	}
	unchanged(t, before, redis)

	for c, mine := range map[*client]string{acme: hers.ID, other: his.ID} {
		if ids := c.page("").ids(); len(ids) != 1 || ids[0] != mine {
			t.Errorf("the list holds %v, want %s alone", ids, mine)
		}
	}

	// The same idempotency key and the same id mean nothing to each other.
	const body, otherBody = `{"id":"order-1","type":"call.qualified","data":"acme"}`, `{"id":"order-1","type":"call.qualified","data":"other"}`
	acme.post(body)
	other.post(otherBody)
	acme.post(`{"type":"call.qualified","data":"acme"}`, "Idempotency-Key", "k")
	other.post(`{"type":"call.qualified","data":"other"}`, "Idempotency-Key", "k")
	acmeReceiver.await(3)
	otherReceiver.await(2)
	s.awaitIdle()
	for want, r := range map[string]*receiver{"acme": acmeReceiver, "other": otherReceiver} {
		for _, q := range r.all() {
			if !strings.HasSuffix(string(q.body), `"data":"`+want+`"}`) {
				t.Errorf("the receiver of %s gets %s", want, q.body)
			}
		}
	}
	if a, b := len(acmeReceiver.all()), len(otherReceiver.all()); a != 3 || b != 2 {
		t.Errorf("%d and %d requests arrive, want 3 and 2", a, b)
	}

	// What one does to its own endpoint leaves the other's alone.
	acme.do(http.StatusOK, "DELETE", "/api/v1/webhooks/"+hers.ID, "")
	other.publish(1, "call.qualified", `"other"`)
	acme.publish(0, "call.qualified", `"acme"`)
}

// headerNames returns the headers of an answer, those apart whose value is the
// time or a length.
func headerNames(r *response) string {
	var names []string
	for _, name := range []string{"Content-Type", "Content-Length", "X-Request-Id", "Retry-After", "Cache-Control", "Connection", "Allow", "Www-Authenticate"} {
		if v := r.header.Get(name); v != "" {
			names = append(names, name+"="+v)
		}
	}
	return strings.Join(names, " ")
}
