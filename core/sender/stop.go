package sender

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// checkStops ends the starting of attempts when the lease is lost, when the
// sender drains, or when the bundle's time is up. What was not started is left
// alone in the first case, since another sender will have the bundle, and goes
// back to the queue in the others.
func (r *run) checkStops() {
	if r.halted {
		return
	}
	switch {
	case r.ctx.Err() != nil:
		r.fail(fmt.Errorf("lease lost: %w", context.Cause(r.ctx)))
	case r.s.isDraining(), !r.s.now().Before(r.limit):
		r.putBackRest()
	}
}

// fail makes err the result of the run, unless there is one. The rest of the
// bundle is not started, except where err concerns one delivery alone.
func (r *run) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	if !errors.Is(err, errPanic) {
		r.halt()
	}
}

// putBackRest sends what was not started back to the queue, at once: others can
// take it while the attempts in flight end here.
func (r *run) putBackRest() {
	for _, i := range r.halt() {
		v := putBack(&r.b.Deliveries[i], time.Time{})
		v.index = i
		r.collect(v)
	}
	r.settleNow = true
}

// halt ends the starting of attempts, gives up every claim on slots and returns
// the deliveries that were not started, in their order.
func (r *run) halt() []int {
	if r.halted {
		return nil
	}
	r.halted = true
	var rest []int
	var waitingFor []string
	for endpoint, l := range r.lanes {
		rest = append(rest, l.indexes...)
		l.indexes = nil
		if l.waiting {
			waitingFor = append(waitingFor, endpoint)
		}
		for ; l.held > 0; l.held-- {
			r.s.limits.release(endpoint)
		}
		l.waiting, l.ready = false, false
	}
	r.s.limits.leave(r.waiter, waitingFor)
	r.ready, r.waiting = nil, 0
	slices.Sort(rest)
	return rest
}
