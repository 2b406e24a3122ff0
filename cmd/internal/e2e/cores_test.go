package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSpareCores: a sender with little to do runs on one core, and on all of them
// when there is more.
func TestSpareCores(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"GOMAXPROCS": "4"})
	r := newReceiver(t, s.ca, nil)
	c := s.client("org", "admin,publish")
	c.subscribe(r.url(), "lead.created")
	// The log is asked first: to look at the metrics is something to do.
	changed := func(to int) bool {
		log := s.sender.log()
		const change = `"msg":"cores in use changed","cores":`
		at := strings.LastIndex(log, change)
		return at >= 0 && strings.HasPrefix(log[at+len(change):], fmt.Sprintf("%d}", to))
	}
	expect := func(program string, want int) {
		t.Helper()
		if n := int(s.metric(program, "go_sched_gomaxprocs_threads")); n != want {
			t.Errorf("the %s has %d cores, want %d", program, n, want)
		}
	}
	expect("sender", 4)
	sent := 0
	s.eventually("one core for a few events", func() bool {
		c.publish(1, "lead.created", "1")
		sent++
		r.await(sent)                      // nothing is to begin when the metrics are read
		time.Sleep(100 * time.Millisecond) // the pace of somebody who has few
		return changed(1)
	})
	expect("sender", 1)
	expect("gateway", 4)
	s.eventually("all cores for many", func() bool {
		const many = 500
		c.publishMany(many, "lead.created")
		sent += many
		return changed(4)
	})
	r.await(sent)
	expect("sender", 4)
}
