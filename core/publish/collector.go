package publish

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/core"
)

// States of a waiter. Whoever moves it out of stateWaiting decides: the flush
// that takes it, or its own deadline.
const (
	stateWaiting int32 = iota
	stateTaken
	stateLeft
)

// waiter is a request on its way: the calling goroutine waits for done, a flush
// fills in the rest.
type waiter struct {
	request  *Request
	events   int   // what it counts against the collector's bounds
	bytes    int64 // of event bodies
	deadline time.Time
	state    atomic.Int32
	done     chan struct{} // capacity 1: answer and err are set
	timer    *time.Timer

	answer    []byte
	err       *core.Error
	allowance Allowance

	organization int       // index in the flush
	claim        int       // index of the whole request's reservation in the flush; none: -1
	outcomes     []outcome // parallel to request.Items
	single       [1]outcome
	deliveries   int         // that are to be stored
	skipped      *core.Error // why nothing has been stored, nor will be
}

func newWaiter() *waiter {
	w := &waiter{done: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}

func (w *waiter) reset(r *Request, deadline time.Time) {
	w.request, w.deadline, w.deliveries = r, deadline, 0
	w.events, w.bytes = max(len(r.Items), 1), 0 // an empty batch waits like an event
	for i := range r.Items {
		w.bytes += int64(len(r.Items[i].Body))
	}
	w.state.Store(stateWaiting)
	if len(r.Items) == 1 {
		w.outcomes = w.single[:]
	} else {
		w.outcomes = make([]outcome, len(r.Items))
	}
}

// forget drops what the waiter refers to, before it goes back to its pool.
func (w *waiter) forget() {
	w.request, w.answer, w.err, w.outcomes, w.skipped = nil, nil, nil, nil, nil
	w.single[0], w.allowance = outcome{}, Allowance{}
}

// late takes the waiter out of its queue at its deadline. It reports true if
// there is an answer after all.
func (w *waiter) late() bool {
	if w.state.CompareAndSwap(stateWaiting, stateLeft) {
		return false
	}
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// finish hands the answer to the calling goroutine. The waiter must not be
// touched afterwards.
func (w *waiter) finish() { w.done <- struct{}{} }

// line is a kind of requests with flushes of its own, so that one kind waits for
// none of the other.
type line int

const (
	lineNormal line = iota // of organizations within their share
	lineBulk               // of those above it, whose deliveries go to the bulk queue
	lines
)

// collector holds the requests that wait for a flush. It is bounded in events
// and in bytes, those of the flushes in flight included.
type collector struct {
	maxEvents int
	maxBytes  int64
	wake      [lines]chan struct{} // a token for each worker that may have to look

	mu     sync.Mutex
	lines  [lines]queued
	shares *shares
	closed bool
}

// queued is what a line holds.
type queued struct {
	waiting []*waiter
	events  int   // waiting or in flight
	bytes   int64 // waiting or in flight
}

func newCollector(maxEvents int, maxBytes int64, workers int) *collector {
	c := &collector{maxEvents: maxEvents, maxBytes: maxBytes, shares: newShares()}
	for l := range c.wake {
		c.wake[l] = make(chan struct{}, workers)
	}
	return c
}

// add queues w, or returns CodeUnavailable when that would exceed a bound. A
// request that is larger than a bound by itself passes when it is alone. The bulk
// line leaves a quarter of the room to the other one.
func (c *collector) add(w *waiter, now time.Time) *core.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return core.Unavailable("this server is shutting down", nil)
	}
	l := lineNormal
	if c.shares.add(w.request.Organization, w.events, now) {
		l = lineBulk
	}
	q, bulk := &c.lines[l], &c.lines[lineBulk]
	events, bytes := c.lines[lineNormal].events+bulk.events, c.lines[lineNormal].bytes+bulk.bytes
	full := events > 0 && (events+w.events > c.maxEvents || bytes+w.bytes > c.maxBytes)
	if l == lineBulk {
		full = full || bulk.events > 0 && (bulk.events+w.events > c.maxEvents*3/4 || bulk.bytes+w.bytes > c.maxBytes*3/4)
	}
	if full {
		return core.Unavailable("too many events are waiting to be stored", nil)
	}
	q.events += w.events
	q.bytes += w.bytes
	q.waiting = append(q.waiting, w)
	select {
	case c.wake[l] <- struct{}{}:
	default:
	}
	return nil
}

// fannedOut counts what the requests turned out to be: more deliveries than events.
func (c *collector) fannedOut(waiters []*waiter, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range waiters {
		if more := w.deliveries - w.events; more > 0 {
			c.shares.add(w.request.Organization, more, now)
		}
	}
}

// take appends waiting requests of a line to dst, oldest first, until they have
// limit events together; at least one. open is false once the collector is closed.
func (c *collector) take(dst []*waiter, l line, limit int) (taken []*waiter, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.lines[l]
	n, events := 0, 0
	for n < len(q.waiting) && events < limit {
		events += q.waiting[n].events
		n++
	}
	dst = append(dst, q.waiting[:n]...)
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	return dst, !c.closed
}

// wait blocks until something may have been added to a line or the collector is
// closed.
func (c *collector) wait(l line) { <-c.wake[l] }

// release gives back what finished requests held.
func (c *collector) release(l line, events int, bytes int64) {
	c.mu.Lock()
	c.lines[l].events -= events
	c.lines[l].bytes -= bytes
	c.mu.Unlock()
}

// close refuses what comes from now on.
func (c *collector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		for _, wake := range c.wake {
			close(wake)
		}
	}
}

// pending returns what waits or is in flight.
func (c *collector) pending() (events int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.lines {
		events, bytes = events+c.lines[i].events, bytes+c.lines[i].bytes
	}
	return events, bytes
}

// above returns how many organizations publish more than their share.
func (c *collector) above(now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shares.decay(now)
	return c.shares.above
}
