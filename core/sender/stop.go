package sender

import (
	"context"
	"errors"
	"fmt"
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
		r.collected = append(r.collected, v)
	}
	r.settleNow = true
}

// halt ends the starting of attempts and returns the deliveries that were not
// started.
func (r *run) halt() []int {
	r.halted = true
	return r.lanes.halt()
}
