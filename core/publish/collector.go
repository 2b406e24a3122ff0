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
	skipped      *core.Error // why nothing of it will be stored
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

// wait waits for the answer, for at most left. It reports false if there is none.
func (w *waiter) wait(left time.Duration) bool {
	w.timer.Reset(left)
	defer w.timer.Stop()
	select {
	case <-w.done:
		return true
	case <-w.timer.C:
		return w.late()
	}
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
	flushes   int // in flight at a time, of each line

	mu     sync.Mutex
	lines  [lines]queued
	change [lines]sync.Cond // of a line, for its workers, or of closed
	shares *shares
	closed bool
}

// Where flushes have lingerFrom requests on average, each that no caller leads begins
// lingerTime later than it could, unless lingerBelow events wait: a bundle costs its gateway, Redis and its sender
// half a millisecond of CPU together, however many deliveries are in it. At a low load
// nobody waits.
const (
	lingerFrom  = 16  // requests, averaged over some lingerOver flushes
	lingerOver  = 8   // flushes
	lingerBelow = 256 // events
	lingerTime  = 400 * time.Microsecond
)

// queued is what a line holds.
type queued struct {
	waiting []*waiter
	flushes int     // in flight
	events  int     // waiting or in flight
	bytes   int64   // waiting or in flight
	depth   float64 // requests in a flush, a moving average
}

// began notes how many requests are in the flush that begins.
func (q *queued) began(requests int) { q.depth += (float64(requests) - q.depth) / lingerOver }

// lingers reports whether the next flush is to wait for more requests.
func (q *queued) lingers() bool {
	if q.depth < lingerFrom {
		return false
	}
	events := 0
	for _, w := range q.waiting {
		if events += w.events; events >= lingerBelow {
			return false
		}
	}
	return true
}

func newCollector(maxEvents int, maxBytes int64, flushes int) *collector {
	c := &collector{maxEvents: maxEvents, maxBytes: maxBytes, flushes: flushes, shares: newShares()}
	for l := range c.change {
		c.change[l].L = &c.mu
	}
	return c
}

// add queues w, or returns CodeUnavailable when that would exceed a bound. A
// request that is larger than a bound by itself passes when it is alone. The bulk
// line leaves a quarter of the room to the other one.
//
// Where nothing stands before w, leads is true: then w is not queued but taken, and
// the caller has to flush it.
func (c *collector) add(w *waiter, now time.Time) (l line, leads bool, err *core.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, false, core.Unavailable("this server is shutting down", nil)
	}
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
		return 0, false, core.Unavailable("too many events are waiting to be stored", nil)
	}
	q.events += w.events
	q.bytes += w.bytes
	if len(q.waiting) == 0 && q.flushes < c.flushes {
		q.flushes++
		q.began(1)
		return l, true, nil
	}
	q.waiting = append(q.waiting, w)
	if q.flushes < c.flushes {
		c.change[l].Signal()
	}
	return l, false, nil
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

// take waits until a flush of a line may begin, and then a little longer where many
// requests come, for which it calls sleep. It appends waiting requests of the line to
// dst, oldest first, until they have limit events together; at least one. It returns
// none once the collector is closed and no request of the line waits.
func (c *collector) take(dst []*waiter, l line, limit int, sleep func(time.Duration)) []*waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.lines[l]
	for {
		for len(q.waiting) == 0 || q.flushes == c.flushes {
			if c.closed && len(q.waiting) == 0 {
				return dst
			}
			c.change[l].Wait()
		}
		q.flushes++
		if !q.lingers() {
			break
		}
		c.mu.Unlock()
		sleep(lingerTime)
		c.mu.Lock()
		if len(q.waiting) > 0 {
			break
		}
		q.flushes-- // another flush has taken them meanwhile
	}
	n, events := 0, 0
	for n < len(q.waiting) && events < limit {
		events += q.waiting[n].events
		n++
	}
	q.began(n)
	dst = append(dst, q.waiting[:n]...)
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	return dst
}

// release ends a flush and gives back what its requests held.
func (c *collector) release(l line, events int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.lines[l]
	q.flushes--
	q.events -= events
	q.bytes -= bytes
	switch {
	case c.closed:
		c.change[l].Broadcast()
	case len(q.waiting) > 0:
		c.change[l].Signal()
	}
}

// close refuses what comes from now on.
func (c *collector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for l := range c.change {
		c.change[l].Broadcast()
	}
}

// drained waits until nothing of a line is in flight. It is called after close.
func (c *collector) drained(l line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.lines[l].flushes > 0 {
		c.change[l].Wait()
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
