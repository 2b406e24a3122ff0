package sender

import (
	"context"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
)

// convoyPatience is how long a record waits for the write before it. It bounds what a
// write that hangs holds up, and how much older results get before they are noted.
const convoyPatience = 20 * time.Millisecond

// convoy writes the records of bundles of many deliveries: those that come while others
// are being written go together, next. Under load each write, each endpoint's log in it
// and each round trip serves several bundles. How many is bounded as for a party.
//
// Whoever comes first writes for all, in its own goroutine.
type convoy struct {
	write   func(context.Context, core.Record) error
	writing chan struct{} // a semaphore of one; who has waited for it long enough writes without

	mu   sync.Mutex
	next *party // that can be joined; nil: there is none
}

func newConvoy(write func(context.Context, core.Record) error) *convoy {
	return &convoy{write: write, writing: make(chan struct{}, 1)}
}

// record writes rec before ctx ends. After an error some of it may have been written;
// when it comes again it is written by itself, as with joint.
func (c *convoy) record(ctx context.Context, rec core.Record) error {
	if rec.Repeated {
		return c.write(ctx, rec)
	}
	p, first := c.join(&rec)
	if !first {
		return p.wait(ctx)
	}
	c.lead(ctx, p)
	return p.err
}

// join returns the party that rec has become a part of; first reports whether the
// caller has to lead it.
func (c *convoy) join(rec *core.Record) (p *party, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, first = c.next, c.next == nil
	if first {
		p = newParty()
		c.next = p
	}
	if p.add(rec) {
		c.next = nil
	}
	return p, first
}

// lead writes the record of all, when its turn comes.
func (c *convoy) lead(ctx context.Context, p *party) {
	defer close(p.over)
	if c.await() {
		defer func() { <-c.writing }()
	}
	c.mu.Lock()
	if c.next == p {
		c.next = nil
	}
	c.mu.Unlock()
	p.err = c.write(ctx, p.record)
}

// await waits for the write before, with convoyPatience, and reports whether it is over.
func (c *convoy) await() bool {
	select {
	case c.writing <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(convoyPatience)
	defer timer.Stop()
	select {
	case c.writing <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}
