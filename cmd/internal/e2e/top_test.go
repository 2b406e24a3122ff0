package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// adminFlags tell top where this system's processes are.
func (s *system) adminFlags() []string {
	return []string{
		"--redis-url=" + s.redis.URL(), "--interval=300ms",
		"--gateways=" + strings.TrimPrefix(s.admin["gateway"], "http://"), "--senders=" + strings.TrimPrefix(s.admin["sender"], "http://"),
	}
}

// load publishes one event after the other until the test ends or stop is
// called.
func (c *client) load(eventType string) (stop func()) {
	c.s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			r, err := c.try("POST", "/api/v1/events", fmt.Sprintf(`{"type":%q,"data":%d}`, eventType, i))
			if err != nil || r.status != 202 {
				c.s.t.Errorf("publish: %v, %v", r, err)
				return
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	c.s.t.Cleanup(stop)
	return stop
}

// rateOf returns how many a second a line of top shows; -1 without such a line.
func rateOf(text, name string) float64 {
	m := regexp.MustCompile(`(?m)^` + name + ` +([0-9,.]+)`).FindStringSubmatch(text)
	if m == nil {
		return -1
	}
	rate, err := strconv.ParseFloat(strings.ReplaceAll(m[1], ",", ""), 64)
	if err != nil {
		return -1
	}
	return rate
}

// TestTop looks at both programs under a small load: what flows is shown, and
// what is away is named.
func TestTop(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	acme.subscribe(r.url(), "call.qualified")
	stop := acme.load("call.qualified")
	r.await(1)
	wanted := []*regexp.Regexp{
		regexp.MustCompile(`^sealpost top  \d\d:\d\d:\d\d  gateways 1/1  senders 1/1  every 300ms\n`),
		regexp.MustCompile(`(?m)^events accepted +[0-9,.]+ +\S+ (µs|ms|s) +\S+ (µs|ms|s)   request to answer$`),
		regexp.MustCompile(`(?m)^delivered +[0-9,.]+ +\S+ (µs|ms|s) +\S+ (µs|ms|s)   accept to delivery`),
		regexp.MustCompile(`(?m)^events refused +0\.0`),
		regexp.MustCompile(`(?m)^failed attempts +0\.0`),
		regexp.MustCompile(`(?m)^in flight +\d+`),
		regexp.MustCompile(`(?m)^deliver-03 +\d+ +\d+ +\d+ +\d+ +0 `),
		regexp.MustCompile(`(?m)^Redis  [0-9.]+ [KMG]iB of [0-9.]+ [KMG]iB \(\d+ %\), [0-9,.]+ commands a second$`),
		regexp.MustCompile(`(?m)^Backlogs  0 deliveries of 0 endpoints, 0\.0 KiB; endpoints: 0 failing, 0 paused, 0 throttled, 0 slow, 0 catching up$`),
		regexp.MustCompile(`(?m)^worst endpoints`),
	}
	// On a machine that is busy with other things an interval may pass without
	// a delivery: some snapshot shows them all.
	var text string
	s.eventually("a snapshot in which everything flows", func() bool {
		text = s.command(append([]string{"top", "--once"}, s.adminFlags()...)...)
		for _, name := range []string{"events accepted", "deliveries stored", "attempts", "delivered"} {
			if rateOf(text, name) <= 0 {
				return false
			}
		}
		return !slices.ContainsFunc(wanted, func(want *regexp.Regexp) bool { return !want.MatchString(text) })
	})
	if strings.Contains(text, "\x1b") || strings.Contains(text, "no answer") {
		t.Errorf("plain output of a whole system:\n%q", text)
	}

	// Not on a terminal it goes on in plain text, until a signal ends it well.
	view := startProcess(t, "gateway", nil, append([]string{"top"}, s.adminFlags()...)...)
	for range 2 {
		view.await("a rate", func(line string) bool { return rateOf(line, "delivered") > 0 })
	}
	stop()
	if status := s.sender.stop(); status != 0 {
		t.Errorf("the sender ends with status %d", status)
	}
	view.await("the sender is away", func(line string) bool { return strings.HasPrefix(line, "no answer from 127.0.0.1:") })
	view.signal(syscall.SIGTERM)
	if status := view.exited(); status != 0 || strings.Contains(view.log(), "\x1b") {
		t.Errorf("status %d, log %q", status, view.log())
	}
	if text = s.command(append([]string{"top", "--once"}, s.adminFlags()...)...); !strings.Contains(text, "senders 0/1") {
		t.Errorf("without sender:\n%s", text)
	}

	// When nobody answers, --once says so by its status.
	s.gateway.kill()
	s.redis.Kill()
	cmd := exec.Command(binary("gateway"), append([]string{"top", "--once"}, s.adminFlags()...)...)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "neither a gateway nor a sender nor Redis answers") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTopRefusals are flags that end it with status 2 and one line.
func TestTopRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ arg, says string }{
		{"--interval=1ms", "at least 200ms"},
		{"--gateways=localhost", "not an address"},
		{"--senders=" + strings.Repeat("127.0.0.1:1,", 64) + "127.0.0.1:1", "more than 64"},
		{"--redis-url=http://x", "SEALPOST_REDIS_URL"},
	} {
		cmd := exec.Command(binary("gateway"), "top", "--once", tt.arg)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), tt.says) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: %v, %s; want status 2 and a line with %q", tt.arg, err, out, tt.says)
		}
	}
}
