package sender

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/core"
)

const (
	// maxTrimmed is how many deliveries leave a full backlog at a time.
	maxTrimmed = 256

	// maxTrims is how often that is repeated before the drain does anything else.
	maxTrims = 64
)

// trim makes dead letters of the oldest deliveries of a backlog that is above its
// bounds, of those that have not begun, and reports whether it was. It looks once in every holdInterval; with the
// next delivery that is parked above the bounds the backlog is claimed again.
func (d *drain) trim() (trimmed bool) {
	now := d.s.now()
	if d.lost || now.Sub(d.trimmedAt) < holdInterval {
		return false
	}
	d.trimmedAt = now
	for range maxTrims {
		n, err := d.trimSome()
		if n > 0 {
			trimmed = true
			d.ahead, d.cursor, d.readAt = nil, d.begun, time.Time{} // what was read is gone, in part at least
		}
		if err != nil {
			d.s.logger.Warn("a backlog is above its bounds and could not be trimmed",
				"organization", d.claim.Endpoint.Organization, "endpoint", d.claim.Endpoint.ID, "error", err)
			return trimmed
		}
		if n == 0 {
			return trimmed
		}
		if d.s.now().Sub(d.heldAt) >= holdInterval {
			d.holdNow()
		}
		if d.lost {
			return trimmed
		}
	}
	d.trimmedAt = d.trimmedAt.Add(-holdInterval)
	return trimmed
}

// trimSome trims as much as one write carries and returns how many deliveries that
// were.
func (d *drain) trimSome() (int, error) {
	ctx, cancel := context.WithTimeout(d.detached, settleCall)
	defer cancel()
	ref := d.claim.Endpoint
	d.s.watcher.Work(d.s.now())
	parked, err := d.s.store.Park(ctx, []core.Parking{{Endpoint: ref}})
	if err != nil || parked[0].Excess == 0 {
		return 0, err
	}
	// What has begun is not given up. The oldest of the others go.
	oldest, err := d.s.store.Backlog(ctx, ref, d.begun, min(parked[0].Excess, maxTrimmed))
	if len(oldest) == 0 {
		return 0, err
	}
	verdicts := make([]*verdict, len(oldest))
	for i := range oldest {
		verdicts[i] = ended(&oldest[i].Delivery, core.ReasonOverflow, d.s.now())
		verdicts[i].entry = &oldest[i]
		d.s.metrics.judged(verdicts[i])
	}
	return len(oldest), d.s.drainBooks(d.detached, ref).settle(verdicts, 0, settleCall)
}
