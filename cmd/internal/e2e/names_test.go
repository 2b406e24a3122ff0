package e2e

import (
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/sealpost/sealpost/core/egress/dnstest"
)

// hostile is a name whose server means harm, or has none to tell.
type hostile struct {
	label   string
	answer  dnstest.Answer
	outcome []string // what each attempt may come to: an error, or "" for a delivery
}

// hostileNames are what a name server can do to lead deliveries to loopback, where
// only 127.0.0.2 and 127.0.0.3 are permitted, and only the former answers.
func hostileNames() []hostile {
	addrs := dnstest.Addrs
	blocked, unknown, delivered := []string{"blocked_address"}, []string{"dns"}, []string{""}
	either := []string{"", "blocked_address"}
	good, bad := addrs("127.0.0.2"), addrs("127.0.0.1")
	return []hostile{
		{"good", good, delivered},
		{"both-families-good", addrs("127.0.0.2", "::1"), delivered},
		{"good-among-bad", addrs("127.0.0.1", "127.0.0.2"), delivered},
		{"redirect", good, []string{"redirect"}},
		{"loopback", addrs("127.0.0.1", "::1"), blocked},
		{"loopback-of-ipv6", addrs("::1"), blocked},
		{"zero", addrs("0.0.0.0", "::"), blocked},
		{"alias", dnstest.Alias([]string{"a.hooks.test", "b.hooks.test", "localhost"}, "127.0.0.1", "::1"), blocked},
		{"bare-alias", dnstest.Alias([]string{"a.hooks.test", "localhost"}), unknown},
		{"many", dnstest.Many(1000), either}, // 127.0.0.2 is one of them
		{"metadata", addrs("169.254.169.254", "fd00:ec2::254"), blocked},
		{"private", addrs("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "198.18.0.1", "fc00::1"), blocked},
		{"embedded", addrs("::ffff:127.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::1", "2001:0:7f00:1::1"), blocked},
		{"special", addrs("fe80::1", "ff02::1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"), blocked},
		{"bad-after-dead", addrs("127.0.0.3", "127.0.0.1"), []string{"connect"}},
		// The first answers are for the test and the first delivery, which go well.
		{"rebinding", dnstest.InTurn(good, good, bad), either},
		{"alternating", dnstest.Alternating(good, bad), either},
		{"failing", dnstest.Fails, unknown},
		{"forged", dnstest.Forged("127.0.0.1"), unknown},
	}
}

// surrounded starts a receiver at 127.0.0.2 and canaries at the same port of the
// loopback addresses that no delivery may reach.
func surrounded(t *testing.T, ca *authority, answer func(n int, r *received, w http.ResponseWriter)) (*receiver, []*canary) {
	t.Helper()
	for range 20 {
		first := newCanary(t, "127.0.0.1:0")
		_, port, err := net.SplitHostPort(first.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		second, err := net.Listen("tcp", "[::1]:"+port)
		if err != nil {
			continue // somebody has it already
		}
		second.Close()
		third, err := net.Listen("tcp", "127.0.0.2:"+port)
		if err != nil {
			continue
		}
		return newReceiverOn(t, ca, third, answer), []*canary{first, newCanary(t, "[::1]:"+port)}
	}
	t.Fatal("no port is free on three addresses")
	return nil, nil
}

// TestHostileNames: whatever a name server answers, and however often it changes its
// mind, nothing connects to an address that is not permitted: no test, delivery, retry,
// replay or backlog. What is permitted is delivered meanwhile.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	names := hostileNames()
	zone := make(map[string]dnstest.Answer)
	for _, n := range names {
		zone[n.label+".hooks.test"] = n.answer
	}
	server := dnstest.Start(t, zone)
	s := newSystem(t, map[string]string{
		"SEALPOST_DNS_SERVERS": server.Addr().String(), "SEALPOST_ALLOW_NETS": "127.0.0.2/32,127.0.0.3/32", "SEALPOST_RETRY_MAX_ATTEMPTS": "2",
	})
	var traps []*canary
	r, traps := surrounded(t, s.ca, func(_ int, r *received, w http.ResponseWriter) {
		w.Header().Set("Connection", "close") // so that every attempt looks the name up
		if r.path == "/redirect" {
			w.Header().Set("Location", traps[0].url("127.0.0.1"))
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	_, port, err := net.SplitHostPort(r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const event = "lead.created"
	owners, ids := make([]*client, len(names)), make([]string, len(names))
	rows := make([]int, len(names))
	for i, n := range names { // an organization each, so that each may be tested at once
		owners[i] = s.client(n.label, "admin,publish")
		ids[i] = owners[i].subscribe("https://"+n.label+".hooks.test:"+port+"/hook", event).ID
		if n.label == "redirect" {
			owners[i].patch(ids[i], `{"url":"https://redirect.hooks.test:`+port+`/redirect"}`)
		} else {
			owners[i].patch(ids[i], `{"url":"https://`+n.label+`.hooks.test.:`+port+`/moved"}`)
		}
	}
	for i, n := range names {
		got := owners[i].test(ids[i])
		if reason := resultOf(got.Status, got.Error); !slices.Contains(n.outcome, reason) {
			t.Errorf("%s: the test came to %q, want one of %q", n.label, reason, n.outcome)
		}
	}
	// await waits until each has at least n more rows, and all are as they should be.
	await := func(what string, n func(hostile) int) {
		t.Helper()
		for i, name := range names {
			var got []delivery
			want := rows[i] + n(name)
			s.eventually(name.label+": "+what, func() bool {
				got = owners[i].deliveries(ids[i])
				return len(got) >= want
			})
			rows[i] = len(got)
			for _, row := range got {
				if reason := resultOf(row.Status, row.Error); !slices.Contains(name.outcome, reason) {
					t.Errorf("%s: %s came to %q, want one of %q", name.label, what, reason, name.outcome)
				}
			}
		}
	}
	never := func(n hostile) bool { return !slices.Contains(n.outcome, "") }
	for i := range names {
		owners[i].publish(1, event, `{}`)
	}
	await("delivery and retry", func(n hostile) int {
		if never(n) {
			return 2
		}
		return 1
	})
	for i, n := range names {
		if never(n) {
			s.eventually(n.label+": a dead letter", func() bool { return len(owners[i].letters(ids[i])) == 1 })
			id := owners[i].letters(ids[i])[0].ID
			owners[i].do(http.StatusAccepted, "POST", "/api/v1/webhooks/"+ids[i]+"/deliveries/"+id+"/replay", "")
		}
	}
	await("replay", func(n hostile) int {
		if never(n) {
			return 1
		}
		return 0
	})
	for i := range names {
		owners[i].patch(ids[i], `{"enabled":false}`)
		owners[i].publish(1, event, `{}`)
		owners[i].patch(ids[i], `{"enabled":true}`)
	}
	await("backlog", func(hostile) int { return 1 })

	for i, trap := range traps {
		if n := trap.connections(t); n != 0 {
			t.Errorf("%d connections were made to canary %d", n, i)
		}
	}
	for _, name := range []string{"rebinding", "alternating"} {
		if n := server.Asked(name + ".hooks.test"); n < 3 {
			t.Errorf("%s was looked up %d times, want three or more: the test shows nothing", name, n)
		}
	}
	// A name that was hostile until now works as soon as it is moved.
	got := len(r.all())
	i := slices.IndexFunc(names, func(n hostile) bool { return n.label == "loopback" })
	owners[i].patch(ids[i], `{"url":"https://good.hooks.test:`+port+`/after"}`)
	owners[i].publish(1, event, `{}`)
	s.eventually("the delivery after the move", func() bool {
		return slices.ContainsFunc(r.all()[got:], func(r received) bool { return r.path == "/after" })
	})
}

// resultOf returns why an attempt failed; "" if it did not.
func resultOf(status string, err *string) string {
	if status == "delivered" {
		return ""
	}
	return text(err)
}
