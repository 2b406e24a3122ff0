package e2e

import (
	"fmt"
	"net"
	"testing"
)

// TestBlockedAddresses is about endpoints whose URL was permitted when they were
// created, but whose address may not be reached: the sender judges the address
// that it dials.
func TestBlockedAddresses(t *testing.T) {
	t.Parallel()
	s := prepareSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "2", "SEALPOST_ALLOW_NETS": "127.0.0.0/8,::1/128"})
	s.startGateway()
	s.env["SEALPOST_ALLOW_NETS"] = "127.0.0.2/32"
	s.startSender()
	acme := s.client("acme", "admin,publish")
	trap := newCanary(t, "127.0.0.1:0")
	_, port, err := net.SplitHostPort(trap.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	targets := []struct {
		name, event, url string
	}{
		{"a loopback address", "call.received", trap.url("127.0.0.1")},
		{"a name that leads to one", "call.classified", trap.url("localhost")},
		{"the loopback address of IPv6", "call.qualified", "https://[::1]:" + port + "/hook"},
		{"another loopback address of the net", "lead.created", trap.url("127.0.0.3")},
	}
	ids := make([]string, len(targets))
	for i, target := range targets {
		ids[i] = acme.subscribe(target.url, target.event).ID
		acme.publish(1, target.event, `{}`)
	}

	// The one address that is permitted works.
	r := newReceiverAt(t, s.ca, "127.0.0.2:0", nil)
	e := acme.subscribe(r.url(), "lead.updated")
	acme.publish(1, "lead.updated", `{}`)
	if got := r.await(1); !verifies(t, e.SigningSecret, &got[0]) {
		t.Error("the delivery to the permitted address does not verify")
	}

	s.awaitIdle()
	for i, target := range targets {
		rows := acme.deliveries(ids[i])
		if len(rows) != 2 || rows[0].Status != "failed" || rows[1].Status != "retrying" {
			t.Errorf("%s: rows %+v, want one retrying and one failed", target.name, rows)
		}
		for _, row := range rows {
			if text(row.Error) != "blocked_address" || row.ResponseStatus != nil {
				t.Errorf("%s: row %+v with error %s, want blocked_address", target.name, row, text(row.Error))
			}
		}
	}
	if n := trap.connections(t); n != 0 {
		t.Errorf("%d connections were made to an address that is not permitted", n)
	}
	if n := s.metric("sender", "sealpost_sender_attempt_failures_total", `reason="blocked_address"`); n != float64(2*len(targets)) {
		t.Errorf("%v attempts are counted as blocked, want %d", n, 2*len(targets))
	}
}

// TestOwnAddressesAreBlocked: Sealpost's own Redis, API and admin listeners, of
// whichever process, are out of reach although the net that they are in is permitted:
// for a test, a delivery, and what waited in a backlog.
func TestOwnAddressesAreBlocked(t *testing.T) {
	t.Parallel()
	s := prepareSystem(t, map[string]string{
		"SEALPOST_RETRY_MAX_ATTEMPTS": "1", "SEALPOST_ALLOW_HTTP": "true", "SEALPOST_ALLOW_NETS": "127.0.0.0/8,::/0",
	})
	s.startGateway()
	s.eventually("the gateway has announced itself", func() bool {
		return s.redis.Client(t).HLen(t.Context(), "sp:processes").Val() == 1
	})
	s.startSender()
	acme := s.client("acme", "admin,publish")
	_, port, err := net.SplitHostPort(s.redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for event, url := range map[string]string{
		"call.received":    "http://" + s.redis.Addr() + "/",
		"call.classified":  s.admin["sender"] + "/debug/pprof/",
		"call.qualified":   s.admin["gateway"] + "/metrics",
		"lead.created":     s.api + "/api/v1/webhooks",
		"review.requested": "http://[::ffff:127.0.0.1]:" + port + "/",
	} {
		e := acme.subscribe(url, event)
		check := func(what string, attempts int) {
			t.Helper()
			s.eventually(fmt.Sprintf("the attempt at %s is in the log", url), func() bool { return len(acme.deliveries(e.ID)) == attempts })
			if row := acme.deliveries(e.ID)[0]; text(row.Error) != "blocked_address" || row.ResponseStatus != nil {
				t.Errorf("%s, %s: row %+v with error %s, want blocked_address", url, what, row, text(row.Error))
			}
		}
		acme.publish(1, event, `{}`)
		check("delivery", 1)
		_, release := acme.gather(e.ID, 1, event)
		release()
		check("backlog", 2)
		s.eventually("the backlog is empty", func() bool { return acme.stand(e.ID).Backlog == 0 })
	}
	// The gateway's own client, for tests, knows the gateway's addresses and Redis.
	for _, url := range []string{"http://" + s.redis.Addr() + "/", s.admin["gateway"] + "/metrics", s.api + "/"} {
		e := acme.subscribe(url, "review.received")
		if got := acme.test(e.ID); got.Status != "failed" || text(got.Error) != "blocked_address" || got.Timings != nil || got.Address != "" {
			t.Errorf("test of %s: %+v, want blocked_address and nothing more", url, got)
		}
	}
}
