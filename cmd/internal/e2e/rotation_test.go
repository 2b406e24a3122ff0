package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// rotate replaces an endpoint's secret and returns the new one and the time at
// which the answer was here.
func (c *client) rotate(endpointID, body string) (secret string, answered time.Time) {
	c.s.t.Helper()
	var e endpoint
	c.do(http.StatusOK, "POST", "/api/v1/webhooks/"+endpointID+"/rotate-secret", body).decode(c.s.t, &e)
	answered = time.Now()
	if !strings.HasPrefix(e.SigningSecret, "whsec_") || e.SigningSecretPrefix != e.SigningSecret[:12] {
		c.s.t.Fatalf("rotate-secret answers no new secret: %+v", e)
	}
	return e.SigningSecret, answered
}

// TestRotation is about receivers that are given the new secret at some moment
// of the overlap: whether they know only the old or only the new one, they
// accept every delivery.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	e := acme.subscribe(r.url(), "call.received")
	first := e.SigningSecret

	pace := startMetronome(t)
	events := acme.startFlow(2, "call.received")
	r.await(20)
	second, rotated := acme.rotate(e.ID, "")
	during := len(r.await(len(r.all()) + 50))
	third, retired := acme.rotate(e.ID, `{"overlap":"0s"}`)
	r.await(len(r.all()) + 50)
	sent := events.end()
	allowance := pace.allowance()
	s.awaitIdle()

	requests := r.all()
	checkReceived(t, requests, sent)
	if during < 70 {
		t.Fatalf("only %d requests came before the old secrets were retired", during)
	}
	var old, both, newest int
	for i := range requests {
		q := &requests[i]
		ofFirst, ofSecond, ofThird := verifies(t, first, q), verifies(t, second, q), verifies(t, third, q)
		signatures := len(strings.Fields(q.header.Get("webhook-signature")))
		switch {
		case ofFirst && !ofSecond && !ofThird && signatures == 1:
			old++
			if q.at.After(rotated.Add(allowance)) {
				t.Errorf("request %d came %v after the rotation's answer and is not signed with the new secret", i, q.at.Sub(rotated))
			}
		case ofFirst && ofSecond && !ofThird && signatures == 2:
			both++
			if q.at.After(retired.Add(allowance)) {
				t.Errorf("request %d came %v after the old secret was retired, and is signed with it", i, q.at.Sub(retired))
			}
		case !ofFirst && !ofSecond && ofThird && signatures == 1:
			newest++
		default:
			t.Errorf("request %d: %d signatures; verified under the first, second, third secret: %t, %t, %t", i, signatures, ofFirst, ofSecond, ofThird)
		}
	}
	if old == 0 || both == 0 || newest == 0 {
		t.Errorf("%d requests were signed with the first secret, %d with the first and second, %d with the third: want some of each", old, both, newest)
	}
}

// TestRotationRetiresAtOnce needs no clock: what is published after the answer
// cannot be signed with a secret that the answer retired.
func TestRotationRetiresAtOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	e := acme.subscribe(r.url(), "call.received")
	leaked := []string{e.SigningSecret}
	acme.publish(1, "call.received", `0`) // the sender knows the first secret now
	r.await(1)

	for round := 1; round <= 5; round++ {
		fresh, _ := acme.rotate(e.ID, `{"overlap":"0s"}`)
		acme.publish(1, "call.received", fmt.Sprint(round))
		q := &r.await(round + 1)[round]
		if !verifies(t, fresh, q) {
			t.Errorf("round %d: not signed with the new secret", round)
		}
		for i, secret := range leaked {
			if verifies(t, secret, q) {
				t.Errorf("round %d: signed with secret %d, which was retired before the event was published", round, i)
			}
		}
		leaked = append(leaked, fresh)
	}
}

// TestRotationLimit: five retired secrets are valid at once beside the current one
// and sign every delivery, newest first; a sixth rotation is refused until the
// older ones are retired.
func TestRotationLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	e := acme.subscribe(r.url(), "call.received")
	secrets := []string{e.SigningSecret}
	for range 5 {
		secret, _ := acme.rotate(e.ID, `{"overlap":"1h"}`)
		secrets = append([]string{secret}, secrets...)
	}
	refused := acme.do(http.StatusConflict, "POST", "/api/v1/webhooks/"+e.ID+"/rotate-secret", "")
	refused.problem(t, http.StatusConflict, "conflict")

	acme.publish(1, "call.received", `{}`)
	q := r.await(1)[0]
	signatures := strings.Fields(q.header.Get("webhook-signature"))
	if len(signatures) != len(secrets) {
		t.Fatalf("%d signatures, want %d", len(signatures), len(secrets))
	}
	for i, secret := range secrets {
		alone := q
		alone.header = q.header.Clone()
		alone.header.Set("webhook-signature", signatures[i])
		if !verifies(t, secret, &alone) {
			t.Errorf("signature %d is not that of secret %d, counted from the newest", i, i)
		}
	}

	last, _ := acme.rotate(e.ID, `{"overlap":"0s"}`)
	acme.publish(1, "call.received", `{}`)
	q = r.await(2)[1]
	if !verifies(t, last, &q) || len(strings.Fields(q.header.Get("webhook-signature"))) != 1 {
		t.Error("after a rotation without overlap the delivery is not signed with the last secret alone")
	}
}
