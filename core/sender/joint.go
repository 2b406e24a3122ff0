package sender

import (
	"context"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
)

// joint writes the records of bundles of one delivery together, as a bundle of many
// does those of its own: at 200 such bundles a second a write of each wakes Redis and
// this process 200 times, a write of ten 20 times. Where they come more rarely than
// every settleInterval nobody waits.
//
// Whoever comes first writes for all, in its own goroutine.
type joint struct {
	write    func(context.Context, core.Record) error
	draining <-chan struct{} // from its end on nobody waits for company
	now      func() time.Time

	mu       sync.Mutex
	open     *party    // that can be joined; nil: there is none
	lastCame time.Time // to record
}

func newJoint(write func(context.Context, core.Record) error, draining <-chan struct{}, now func() time.Time) *joint {
	return &joint{write: write, draining: draining, now: now}
}

// record writes rec within settleInterval and the time of one write. After an
// error some of it may have been written; when it comes again it is written by itself, so that what Redis
// refuses of one bundle does not keep others from being settled.
func (j *joint) record(ctx context.Context, rec core.Record) error {
	if rec.Repeated {
		return j.write(ctx, rec)
	}
	p, first := j.join(rec)
	switch {
	case p == nil:
		return j.write(ctx, rec)
	case first:
		j.lead(ctx, p)
		return p.err
	}
	return p.wait(ctx)
}

// join returns the party that rec has become a part of, nil if there is no company to
// be expected; first reports whether the caller has to lead it.
func (j *joint) join(rec core.Record) (p *party, first bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now()
	alone := now.Sub(j.lastCame) >= settleInterval
	j.lastCame = now
	switch p = j.open; {
	case p == nil && alone:
		return nil, false
	case p == nil:
		p, first = newParty(), true
		j.open = p
	}
	if p.add(&rec) {
		j.open = nil
		close(p.full)
	}
	return p, first
}

// lead waits for company and writes the record of all.
func (j *joint) lead(ctx context.Context, p *party) {
	defer close(p.over)
	timer := time.NewTimer(settleInterval)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.full:
	case <-j.draining:
	}
	j.mu.Lock()
	if j.open == p {
		j.open = nil
	}
	j.mu.Unlock()
	// Its own time, not what is left of the first one's.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleCall)
	defer cancel()
	p.err = j.write(ctx, p.record)
}
