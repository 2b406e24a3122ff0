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

// collector holds the requests that wait for a flush. It is bounded in events
// and in bytes, those of the flushes in flight included.
type collector struct {
	maxEvents int
	maxBytes  int64
	wake      chan struct{} // a token for each worker that may have to look

	mu      sync.Mutex
	waiting []*waiter
	events  int   // waiting or in flight
	bytes   int64 // waiting or in flight
	closed  bool
}

func newCollector(maxEvents int, maxBytes int64, workers int) *collector {
	return &collector{maxEvents: maxEvents, maxBytes: maxBytes, wake: make(chan struct{}, workers)}
}

// add queues w, or returns CodeUnavailable when that would exceed a bound. A
// request that is larger than a bound by itself passes when it is alone.
func (c *collector) add(w *waiter) *core.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return core.Unavailable("this server is shutting down", nil)
	}
	if c.events > 0 && (c.events+w.events > c.maxEvents || c.bytes+w.bytes > c.maxBytes) {
		return core.Unavailable("too many events are waiting to be stored", nil)
	}
	c.events += w.events
	c.bytes += w.bytes
	c.waiting = append(c.waiting, w)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// take appends waiting requests to dst, oldest first, until they have limit
// events together; at least one. open is false once the collector is closed.
func (c *collector) take(dst []*waiter, limit int) (taken []*waiter, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, events := 0, 0
	for n < len(c.waiting) && events < limit {
		events += c.waiting[n].events
		n++
	}
	dst = append(dst, c.waiting[:n]...)
	rest := copy(c.waiting, c.waiting[n:])
	clear(c.waiting[rest:])
	c.waiting = c.waiting[:rest]
	return dst, !c.closed
}

// wait blocks until something may have been added or the collector is closed.
func (c *collector) wait() { <-c.wake }

// release gives back what finished requests held.
func (c *collector) release(events int, bytes int64) {
	c.mu.Lock()
	c.events -= events
	c.bytes -= bytes
	c.mu.Unlock()
}

// close refuses what comes from now on.
func (c *collector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		close(c.wake)
	}
}

// pending returns what waits or is in flight.
func (c *collector) pending() (events int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events, c.bytes
}
