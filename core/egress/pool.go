package egress

import (
	"context"
	"sync"
	"time"
)

// pool keeps the connections of every host. A host has at most maxPerHost, in
// use and idle; who wants one more waits in line. Idle ones are handed out last
// in, first out, so that those not needed grow old and are closed.
//
// The number of hosts is bounded by the number of connections: a host without
// any is forgotten.
type pool struct {
	maxPerHost, maxIdlePerHost, maxIdle int
	idleTimeout                         time.Duration
	now                                 func() time.Time

	mu     sync.Mutex
	closed bool
	hosts  map[string]*host
	idle   int   // connections in all hosts' idle
	oldest *conn // of the idle connections, linked by age through next
	newest *conn
}

type host struct {
	open       int     // connections and permissions to dial one
	idle       []*conn // the last one was used last
	waiting    []chan grant
	generation uint64 // counted up by dropIdle; older connections are not kept
}

// grant gives its receiver a connection, or, if conn is nil, the permission to
// dial one.
type grant struct {
	conn       *conn
	generation uint64
	err        error
}

func newPool(o *Options) *pool {
	return &pool{
		maxPerHost: o.MaxConnsPerHost, maxIdlePerHost: o.MaxIdlePerHost, maxIdle: o.MaxIdle,
		idleTimeout: o.IdleTimeout, now: o.Now, hosts: make(map[string]*host),
	}
}

// get returns, at now, an idle connection or the permission to dial. Whoever gets a
// connection ends with put or drop; whoever dials ends with put or drop of the
// new connection, or with free if there is none.
func (p *pool) get(ctx context.Context, now, deadline time.Time, key string) grant {
	g, wait := p.tryGet(key, now)
	if wait == nil {
		return g
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	err := ErrBusy
	select {
	case g := <-wait:
		return g
	case <-ctx.Done():
		if ctx.Err() == context.Canceled {
			err = context.Cause(ctx)
		}
	case <-timer.C:
	}
	p.leave(key, wait)
	return grant{err: err}
}

// tryGet returns a grant, or a channel on which one will come.
func (p *pool) tryGet(key string, now time.Time) (grant, chan grant) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return grant{err: ErrClosed}, nil
	}
	h := p.hosts[key]
	if h == nil {
		h = &host{}
		p.hosts[key] = h
	}
	var expired []*conn
	if n := len(h.idle); n > 0 && now.Sub(h.idle[n-1].idleSince) >= p.idleTimeout {
		expired = p.takeIdle(h) // the last one is the youngest
	}
	var g grant
	var wait chan grant
	switch n := len(h.idle); {
	case n > 0:
		g = grant{conn: h.idle[n-1]}
		p.unlink(h, n-1)
	case h.open < p.maxPerHost:
		h.open++
		g = grant{generation: h.generation}
	default:
		wait = make(chan grant, 1)
		h.waiting = append(h.waiting, wait)
	}
	p.mu.Unlock()
	cutAll(expired)
	return g, wait
}

// leave takes a waiter out of the line and passes on what it was given meanwhile.
func (p *pool) leave(key string, wait chan grant) {
	p.mu.Lock()
	if h := p.hosts[key]; h != nil {
		for i, w := range h.waiting {
			if w == wait {
				h.waiting = append(h.waiting[:i], h.waiting[i+1:]...)
				p.mu.Unlock()
				return
			}
		}
	}
	p.mu.Unlock()
	switch g := <-wait; { // out of the line: it was served
	case g.err != nil:
	case g.conn != nil:
		p.put(g.conn, p.now())
	default:
		p.free(key)
	}
}

// put takes back, at now, a connection that may be used again.
func (p *pool) put(c *conn, now time.Time) {
	p.mu.Lock()
	h := p.hosts[c.key]
	if p.closed || c.generation != h.generation {
		p.mu.Unlock()
		c.cut()
		p.free(c.key)
		return
	}
	c.idleSince = now
	if len(h.waiting) > 0 {
		p.serve(h, grant{conn: c})
		p.mu.Unlock()
		return
	}
	var surplus *conn
	switch {
	case len(h.idle) >= p.maxIdlePerHost:
		surplus = h.idle[0]
		p.discard(surplus)
	case p.idle >= p.maxIdle:
		surplus = p.oldest
		p.discard(surplus)
	}
	p.link(h, c)
	p.mu.Unlock()
	if surplus != nil {
		surplus.cut()
	}
}

// drop closes a connection that must not be used again.
func (p *pool) drop(c *conn) {
	c.cut()
	p.free(c.key)
}

// free gives back the place of a connection that is no more.
func (p *pool) free(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[key]
	if len(h.waiting) > 0 && !p.closed {
		p.serve(h, grant{generation: h.generation})
		return
	}
	h.open--
	p.forget(key, h)
}

// serve hands g to the first in line. The caller holds mu.
func (p *pool) serve(h *host, g grant) {
	h.waiting[0] <- g // never blocks: one grant per channel
	h.waiting[0] = nil
	h.waiting = h.waiting[1:]
}

// idleNow returns the number of idle connections.
func (p *pool) idleNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle
}

// dropIdle closes the idle connections of a host, and those in use when they
// come back.
func (p *pool) dropIdle(key string) {
	p.mu.Lock()
	var idle []*conn
	if h := p.hosts[key]; h != nil {
		h.generation++
		idle = p.takeIdle(h)
		p.forget(key, h)
	}
	p.mu.Unlock()
	cutAll(idle)
}

// reap closes the connections that have been idle for too long.
func (p *pool) reap() {
	var expired []*conn
	p.mu.Lock()
	for now := p.now(); p.oldest != nil && now.Sub(p.oldest.idleSince) >= p.idleTimeout; {
		expired = append(expired, p.oldest)
		p.discard(p.oldest)
	}
	p.mu.Unlock()
	cutAll(expired)
}

// close closes every idle connection and sends away who waits; connections in
// use are closed when they come back.
func (p *pool) close() {
	var idle []*conn
	p.mu.Lock()
	p.closed = true
	for key, h := range p.hosts {
		idle = append(idle, p.takeIdle(h)...)
		for len(h.waiting) > 0 {
			p.serve(h, grant{err: ErrClosed})
		}
		p.forget(key, h)
	}
	p.mu.Unlock()
	cutAll(idle)
}

// takeIdle removes all idle connections of h and returns them. The caller holds
// mu and closes them after letting go of it.
func (p *pool) takeIdle(h *host) []*conn {
	taken := append([]*conn(nil), h.idle...)
	for n := len(h.idle); n > 0; n-- {
		p.unlink(h, n-1)
	}
	h.open -= len(taken)
	return taken
}

// discard removes the idle connection c, which is its host's oldest. The caller
// holds mu and closes c after letting go of it.
func (p *pool) discard(c *conn) {
	h := p.hosts[c.key]
	p.unlink(h, 0)
	h.open--
	p.forget(c.key, h)
}

func (p *pool) forget(key string, h *host) {
	if h.open == 0 && len(h.waiting) == 0 {
		delete(p.hosts, key)
	}
}

// link adds c to the idle connections.
func (p *pool) link(h *host, c *conn) {
	h.idle = append(h.idle, c)
	c.prev = p.newest
	if p.newest != nil {
		p.newest.next = c
	} else {
		p.oldest = c
	}
	p.newest = c
	p.idle++
}

// unlink takes h.idle[i] out of the idle connections.
func (p *pool) unlink(h *host, i int) {
	c := h.idle[i]
	copy(h.idle[i:], h.idle[i+1:])
	h.idle[len(h.idle)-1] = nil
	h.idle = h.idle[:len(h.idle)-1]
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		p.oldest = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		p.newest = c.prev
	}
	c.prev, c.next = nil, nil
	p.idle--
}

func cutAll(conns []*conn) {
	for _, c := range conns {
		c.cut()
	}
}
