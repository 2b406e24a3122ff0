package pace

import (
	"time"

	"github.com/sealpost/sealpost/core"
)

// SlowAfter is how long an attempt may take before its answer counts as slow.
const SlowAfter = time.Second

// What a Circuit goes by.
const (
	FailuresToOpen = 10               // consecutive failures that open it
	Window         = 30 * time.Second // how far back shares of failures and slow answers are counted
	WindowAttempts = 20               // attempts within Window from which on the share of failures counts
	FailureShare   = 0.5              // share of failed attempts within Window that opens it
	SlowToLeave    = 5                // slow answers in a row, within Window, that make an endpoint slow
)

// runMemory is how long failures in a row are remembered while nothing happens.
const runMemory = 10 * time.Minute

// maxOverdue bounds the attempts known to be overdue. Beyond it, attempts count
// as slow only when they have ended.
const maxOverdue = 1024

// Circuit watches the attempts of one sender at one endpoint and says when they
// should stop. The zero Circuit is ready.
//
// Results come in the order in which attempts end, not in which they began. A
// success therefore ends a run of failures unless it was over before the newest
// of them began; a failure lengthens the run unless a success has come since
// that began later than it did: an attempt that hung while the endpoint was
// away says little once the endpoint has answered others. The same holds for
// slow answers and fast successes. The share of failures counts them all.
//
// A delivery that fails again and again, with no other failure between, counts
// once: it may be the delivery that is wrong, and not the endpoint.
type Circuit struct {
	last   time.Time // of what is known
	opened time.Time // when it last opened: what began before tells nothing new
	failed string    // delivery of the newest failure

	failures streak
	recent   tally
	slow     streak
	slowAt   [SlowToLeave]time.Time // when the newest slow answers were noted, a ring

	overdue map[string]struct{} // deliveries in flight that have been counted as slow
}

// Note takes in the result of an attempt and returns what the endpoint is now
// found to be, the gravest if several: core.StateFailing, after which all starts
// anew; core.StateThrottled, for every busy answer; core.StateSlow, after which
// slow answers are counted anew; or "".
func (c *Circuit) Note(r Result) core.State {
	_, counted := c.overdue[r.Delivery]
	delete(c.overdue, r.Delivery)
	c.seen(r.Ended)
	if r.Began.Before(c.opened) {
		return ""
	}
	fails := c.noteFailure(&r)
	slow := false
	switch {
	case r.took() < SlowAfter && !r.bad():
		c.slow.endedBy(r.Began, r.Ended)
	case r.took() >= SlowAfter && !counted:
		slow = c.noteSlow(r.Began, r.Ended)
	}
	switch {
	case fails:
		*c = Circuit{last: c.last, opened: r.Ended, overdue: c.overdue}
		return core.StateFailing
	case r.Busy:
		return core.StateThrottled
	case slow:
		return c.leave(r.Ended)
	}
	return ""
}

// Overdue takes in that an attempt of the delivery is in flight and has taken
// SlowAfter. It counts as one slow answer, once; the attempt's Note then does
// not. It returns core.StateSlow or "".
func (c *Circuit) Overdue(delivery string, now time.Time) core.State {
	c.seen(now)
	if _, counted := c.overdue[delivery]; counted || len(c.overdue) >= maxOverdue {
		return ""
	}
	if c.overdue == nil {
		c.overdue = make(map[string]struct{})
	}
	c.overdue[delivery] = struct{}{}
	if began := now.Add(-SlowAfter); !began.Before(c.opened) && c.noteSlow(began, now) {
		return c.leave(now)
	}
	return ""
}

// Forgettable reports whether the circuit knows nothing worth keeping.
func (c *Circuit) Forgettable(now time.Time) bool {
	if c.failures.length == 0 && c.slow.length == 0 && len(c.overdue) == 0 && !c.recent.failed() && now.Sub(c.opened) > Window {
		return true
	}
	quiet := now.Sub(c.last)
	return quiet >= Window && (c.failures.length == 0 || quiet >= runMemory)
}

func (c *Circuit) seen(at time.Time) {
	if at.After(c.last) {
		c.last = at
	}
}

// noteFailure counts the result and reports whether the circuit opens by it.
func (c *Circuit) noteFailure(r *Result) bool {
	if !r.bad() {
		c.failures.endedBy(r.Began, r.Ended)
		c.recent.add(r.Ended, false)
		return false
	}
	if r.Delivery != "" && r.Delivery == c.failed {
		return false
	}
	c.failed = r.Delivery
	c.failures.add(r.Began)
	c.recent.add(r.Ended, true)
	return c.failures.length >= FailuresToOpen || c.recent.failing()
}

// noteSlow counts an attempt as slow and reports whether the endpoint is.
func (c *Circuit) noteSlow(began, at time.Time) bool {
	if !c.slow.add(began) {
		return false
	}
	c.slowAt[(c.slow.length-1)%SlowToLeave] = at
	oldest := c.slowAt[c.slow.length%SlowToLeave] // the next to be overwritten
	return c.slow.length >= SlowToLeave && at.Sub(oldest) <= Window
}

// leave begins counting slow answers anew: of attempts that begin from now on.
func (c *Circuit) leave(at time.Time) core.State {
	c.slow = streak{good: at}
	return core.StateSlow
}
