package sender

import (
	"slices"
	"sync"
	"time"
)

// limiter bounds the attempts in flight to each endpoint. Nobody blocks in it:
// who finds an endpoint full is queued and handed slots later. Who is first in the
// queue gets all it wants before the next one gets any, so that of many bundles for
// one endpoint the oldest is finished first, and none is overtaken by those that come
// after it, but for bulk work, which stands behind what is not. Were each given one, all would be finished late, and each would settle
// its results in small pieces.
//
// An endpoint is known to it only while slots of it are taken or have been handed to a
// bundle for its next attempts, so it holds at most as many as there are endpoints in
// the bundles that have begun.
type limiter struct {
	max int // attempts in flight per endpoint
	now func() time.Time

	mu    sync.Mutex
	gates map[string]*gate // by endpoint id
}

// gate is one endpoint's count. While anybody waits, inFlight is at least max.
type gate struct {
	inFlight int
	waiting  []place   // bulk work last, and of each kind oldest first; each waiter at most once
	turn     int       // slots handed on
	open     time.Time // until then there is no limit
}

// next returns the index of the place to which the next slot goes: the first, but every
// so often that of bulk work, which keeps its floor here as in slots.
func (g *gate) next() int {
	if g.turn++; g.turn%bulkFloor == 0 {
		return max(g.firstBulk(), 0)
	}
	return 0
}

// firstBulk returns the index of the oldest place of bulk work; none: -1.
func (g *gate) firstBulk() int {
	return slices.IndexFunc(g.waiting, func(p place) bool { return p.waiter.bulk })
}

// enqueue gives w a place.
func (g *gate) enqueue(w *waiter, want int) {
	i := len(g.waiting)
	if first := g.firstBulk(); first >= 0 && !w.bulk {
		i = first
	}
	g.waiting = slices.Insert(g.waiting, i, place{waiter: w, want: want})
}

// place is a waiter's in the queue of an endpoint.
type place struct {
	waiter *waiter
	want   int // slots, at least 1
}

// grant tells a waiter what it was handed of an endpoint.
type grant struct {
	endpoint string
	slots    int
	last     bool // the waiter stands in the queue no longer: it was handed all it wanted
}

// waiter is where a bundle receives slots. Its bell rings when granted grew, or
// when the bundle's workers have news.
type waiter struct {
	bulk    bool          // gives way to what is not
	bell    chan struct{} // capacity 1
	granted []grant       // not yet taken, of each endpoint at most one; guarded by limiter.mu
}

// receive notes that slots of the endpoint are w's. The caller holds limiter.mu.
func (w *waiter) receive(endpoint string, slots int, last bool) {
	i := w.find(endpoint)
	if i < 0 {
		i = len(w.granted)
		w.granted = append(w.granted, grant{endpoint: endpoint})
	}
	w.granted[i].slots += slots
	w.granted[i].last = last
	w.ring()
}

// find returns the index in granted of the endpoint; none: -1. The caller holds
// limiter.mu.
func (w *waiter) find(endpoint string) int {
	return slices.IndexFunc(w.granted, func(g grant) bool { return g.endpoint == endpoint })
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

func newWaiter(bulk bool) *waiter { return &waiter{bulk: bulk, bell: make(chan struct{}, 1)} }

// acquire takes a slot of the endpoint. When none is free it returns false, and
// w will be granted as many as it wants later; w must not ask again for this endpoint
// before it has them all or has cancelled.
func (l *limiter) acquire(endpoint string, w *waiter, want int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gates[endpoint]
	if g == nil {
		g = &gate{}
		l.gates[endpoint] = g
	}
	if g.inFlight >= l.max && !(!g.open.IsZero() && l.now().Before(g.open)) {
		g.enqueue(w, want)
		return false
	}
	g.inFlight++
	return true
}

// open lifts the limit of an endpoint until then: its deliveries are no longer sent, so
// there is nothing to bound. All who wait are granted a slot, and the others when they
// ask for them.
func (l *limiter) open(endpoint string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gates[endpoint]
	if g == nil {
		return
	}
	g.open = until
	for _, p := range g.waiting {
		g.inFlight++
		p.waiter.receive(endpoint, 1, true)
	}
	g.waiting = nil
}

// release gives a slot back: to the first who waits, if there is one.
func (l *limiter) release(endpoint string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked(endpoint, 1)
}

func (l *limiter) releaseLocked(endpoint string, slots int) {
	g := l.gates[endpoint]
	for range slots {
		if len(g.waiting) == 0 || g.inFlight > l.max {
			g.inFlight--
			continue
		}
		next := g.next()
		p := &g.waiting[next]
		p.want--
		last := p.want == 0
		p.waiter.receive(endpoint, 1, last)
		if last {
			g.waiting = slices.Delete(g.waiting, next, next+1)
		}
	}
	if g.inFlight == 0 {
		delete(l.gates, endpoint)
	}
}

// take returns what was handed to w since the last call.
func (l *limiter) take(w *waiter) []grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	granted := w.granted
	w.granted = nil
	return granted
}

// cancel ends the waiting of w for one endpoint; slots that were handed over
// meanwhile are given back.
func (l *limiter) cancel(endpoint string, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dequeue(endpoint, w) // first: a slot given back must not return to w itself
	if i := w.find(endpoint); i >= 0 {
		slots := w.granted[i].slots
		w.granted = slices.Delete(w.granted, i, i+1)
		l.releaseLocked(endpoint, slots)
	}
}

// leave ends the waiting of w for the endpoints, and gives slots back that were
// handed to it meanwhile.
func (l *limiter) leave(w *waiter, endpoints []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, endpoint := range endpoints {
		l.dequeue(endpoint, w)
	}
	granted := w.granted
	w.granted = nil
	for _, g := range granted {
		l.releaseLocked(g.endpoint, g.slots)
	}
}

func (l *limiter) dequeue(endpoint string, w *waiter) {
	g := l.gates[endpoint]
	if g == nil {
		return
	}
	if i := slices.IndexFunc(g.waiting, func(p place) bool { return p.waiter == w }); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}
