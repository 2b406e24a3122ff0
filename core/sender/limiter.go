package sender

import (
	"slices"
	"sync"
	"time"
)

// limiter bounds the attempts in flight to each endpoint. Nobody blocks in it:
// who finds an endpoint full is queued and handed a slot later, in order, so a
// bundle that waits cannot be overtaken for ever by bundles that come after it.
//
// An endpoint is known to it only while attempts to it are in flight, so it
// holds at most as many as there are slots in the process.
type limiter struct {
	max int // attempts in flight per endpoint
	now func() time.Time

	mu    sync.Mutex
	gates map[string]*gate // by endpoint id
}

// gate is one endpoint's count. While anybody waits, inFlight is at least max.
type gate struct {
	inFlight int
	waiting  []*waiter // oldest first, each at most once
	open     time.Time // until then there is no limit
}

// waiter is where a bundle receives slots. Its bell rings when granted grew, or
// when the bundle's workers have news.
type waiter struct {
	bell    chan struct{} // capacity 1
	granted []string      // endpoints with a slot handed over; guarded by limiter.mu
}

// ring wakes the bundle. It does not block.
func (w *waiter) ring() {
	select {
	case w.bell <- struct{}{}:
	default: // it has been rung and has not looked yet
	}
}

func newLimiter(perEndpoint int, now func() time.Time) *limiter {
	return &limiter{max: perEndpoint, now: now, gates: make(map[string]*gate)}
}

func newWaiter() *waiter { return &waiter{bell: make(chan struct{}, 1)} }

// acquire takes a slot of the endpoint. When none is free it returns false, and
// w will be granted one later; w must not ask again for this endpoint before.
func (l *limiter) acquire(endpoint string, w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gates[endpoint]
	if g == nil {
		g = &gate{}
		l.gates[endpoint] = g
	}
	if g.inFlight >= l.max && !(!g.open.IsZero() && l.now().Before(g.open)) {
		g.waiting = append(g.waiting, w)
		return false
	}
	g.inFlight++
	return true
}

// open lifts the limit of an endpoint until then, and grants a slot to all who wait
// for one: its deliveries are no longer sent, so there is nothing to bound.
func (l *limiter) open(endpoint string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gates[endpoint]
	if g == nil {
		return
	}
	g.open = until
	for _, w := range g.waiting {
		g.inFlight++
		w.granted = append(w.granted, endpoint)
		w.ring()
	}
	g.waiting = nil
}

// release gives a slot back: to the first who waits, if there is one.
func (l *limiter) release(endpoint string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked(endpoint)
}

func (l *limiter) releaseLocked(endpoint string) {
	g := l.gates[endpoint]
	if len(g.waiting) > 0 && g.inFlight <= l.max {
		w := g.waiting[0]
		g.waiting = slices.Delete(g.waiting, 0, 1)
		w.granted = append(w.granted, endpoint)
		w.ring()
		return
	}
	g.inFlight--
	if g.inFlight == 0 {
		delete(l.gates, endpoint)
	}
}

// take returns the endpoints whose slots were handed to w since the last call.
func (l *limiter) take(w *waiter) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	granted := w.granted
	w.granted = nil
	return granted
}

// cancel ends the waiting of w for one endpoint; a slot that was handed over
// meanwhile is given back.
func (l *limiter) cancel(endpoint string, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(w.granted, endpoint); i >= 0 {
		w.granted = slices.Delete(w.granted, i, i+1)
		l.releaseLocked(endpoint)
		return
	}
	g := l.gates[endpoint]
	if i := slices.Index(g.waiting, w); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}

// leave ends the waiting of w for the endpoints, and gives slots back that were
// handed to it meanwhile.
func (l *limiter) leave(w *waiter, endpoints []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, endpoint := range endpoints {
		if g := l.gates[endpoint]; g != nil {
			if i := slices.Index(g.waiting, w); i >= 0 {
				g.waiting = slices.Delete(g.waiting, i, i+1)
			}
		}
	}
	// Only now: a slot given back must not return to w itself.
	granted := w.granted
	w.granted = nil
	for _, endpoint := range granted {
		l.releaseLocked(endpoint)
	}
}
