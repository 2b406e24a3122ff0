package rawconn

import (
	"errors"
	"os"
	"sync"
	"time"
)

// deadline is that of one direction of a connection. A server sets two or three for each
// request, mostly later ones; to tell the poller of each costs more than to look now and
// then. So the poller keeps an earlier one as long as there is one, and when that has
// passed the wait goes on, until the deadline that is wanted.
type deadline struct {
	set func(time.Time) error // the poller's

	mu     sync.Mutex
	wanted time.Time // zero: none
	armed  time.Time // the poller's, none or not after wanted; zero: none
}

// want sets the deadline.
func (d *deadline) want(t time.Time) error {
	t = monotonic(t)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.note(t) {
		return d.set(t)
	}
	return nil
}

// note notes the deadline that is wanted, and reports whether the poller has to be told.
// That there is none it is always told: go-redis says so before it waits for the
// descriptor itself, past Read. The caller holds mu.
func (d *deadline) note(t time.Time) bool {
	d.wanted = t
	if t.IsZero() && d.armed.IsZero() || !t.IsZero() && !d.armed.IsZero() && !t.Before(d.armed) {
		return false
	}
	d.armed = t
	return true
}

// goesOn reports whether a wait that ended with err goes on, because only the poller's
// deadline has passed. Then the poller has the one that is wanted.
func (d *deadline) goesOn(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted.IsZero() && !time.Now().Before(d.wanted) {
		return false
	}
	d.armed = d.wanted
	return d.set(d.wanted) == nil
}

// monotonic returns t with a reading of the monotonic clock, as the poller makes itself
// one: go-redis's deadlines have none, and a clock that is set back must not make them
// last longer.
func monotonic(t time.Time) time.Time {
	if t.IsZero() || t != t.Round(0) {
		return t
	}
	now := time.Now()
	return now.Add(t.Sub(now))
}
