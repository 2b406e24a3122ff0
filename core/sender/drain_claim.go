package sender

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/core"
)

// finish is called when nothing is in flight and all is settled. It reports
// whether the drain is over.
func (d *drain) finish(stop <-chan struct{}) bool {
	if d.lost {
		return true
	}
	now := d.s.now()
	if !d.stopping && d.rateWait > 0 {
		return d.rest(stop, d.rateWait)
	}
	if !d.stopping {
		if rest := d.pace.Rest(now); rest > 0 {
			return d.rest(stop, rest)
		}
	}
	released := false
	if c := d.claim.Condition.State; !d.stopping || c != core.StateFailing && c != core.StatePaused {
		// With nothing left the endpoint is like any other again.
		r := core.Release{Claim: d.claim, OnlyEmpty: true}
		r.Claim.Condition = core.Condition{}
		if d.lane.Parks(now) {
			r.Claim.Condition = d.lane
		}
		released = d.release(r)
	}
	if !released && d.stopping {
		released = d.release(core.Release{Claim: d.claim, Due: d.due})
	}
	d.rewind() // not released: more has come meanwhile
	return released
}

// rewind begins with the oldest again. Nothing is in flight.
func (d *drain) rewind() { d.cursor, d.begun, d.readAt = "", "", time.Time{} }

// release ends the claim. It reports whether the drain is over.
func (d *drain) release(r core.Release) bool {
	ctx, cancel := context.WithTimeout(d.detached, settleCall)
	defer cancel()
	released, err := d.s.store.ReleaseClaim(ctx, r)
	if err != nil {
		d.s.logger.Warn("a claim on a backlog was not released; it runs out", "endpoint", d.claim.Endpoint.ID, "error", err)
	}
	return released || err != nil
}

// rest waits until the rate allows another attempt, or its allowance is full again:
// a drain that ended earlier would leave its successor a fresh one. It reports
// whether the drain is over.
func (d *drain) rest(stop <-chan struct{}, wait time.Duration) bool {
	t := time.NewTimer(min(wait, holdInterval))
	defer t.Stop()
	select {
	case <-t.C:
		d.hold()
		d.adapt()
		if len(d.ahead) == 0 {
			d.rewind()
		}
	case <-stop:
		d.stop(time.Time{})
	}
	return false
}

// hold keeps the claim when it is time to.
func (d *drain) hold() {
	if d.s.now().Sub(d.heldAt) >= holdInterval {
		d.catchUpLane()
		d.holdNow()
		d.trim()
	}
}

// catchUpLane keeps senders parking while the drain is at work.
func (d *drain) catchUpLane() {
	c := &d.claim.Condition
	if d.stopping {
		return // what it stopped for stays
	}
	if c.State == core.StateSlow || c.State == core.StateThrottled || c.State == core.StatePaused {
		*c = core.Condition{State: core.StateCatchingUp, Since: d.s.now()}
	}
}

// holdNow keeps the claim and notes its condition. When the claim is lost, or might
// be, nothing new is started.
func (d *drain) holdNow() {
	ctx, cancel := context.WithTimeout(d.detached, settleCall)
	defer cancel()
	asked := d.s.now()
	held, err := d.s.store.HoldClaim(ctx, d.claim)
	switch {
	case err == nil && held:
		d.heldAt = asked
		return
	case err != nil && d.s.now().Sub(d.heldAt) < core.ClaimLease:
		d.s.logger.Warn("a claim on a backlog could not be held", "endpoint", d.claim.Endpoint.ID, "error", err)
		return // the next try may be in time
	}
	d.lost = true
	d.end(errClaimLost)
	d.stop(time.Time{})
}
