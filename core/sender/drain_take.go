package sender

import (
	"errors"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/pace"
)

// take takes in the result of an attempt.
func (d *drain) take(v *verdict) {
	d.inFlight--
	if v.tried {
		d.pace.Note(v.result)
		if d.probing {
			d.s.metrics.probes.Inc()
		}
	}
	switch {
	case v.step == stepOpen:
		pause := time.Second
		if errors.Is(v.err, errPanic) {
			pause = holdTime
		}
		d.s.logger.Warn("a delivery stays in its backlog", "endpoint", d.claim.Endpoint.ID, "error", v.err)
		d.stop(d.s.now().Add(pause))
		return // nothing to settle
	case v.step == stepDefer || v.step == stepPark:
		// Not tried: the endpoint is disabled, its key does not fit, or its host is
		// busy with others.
		if v.step == stepPark {
			d.claim.Condition = core.Condition{}
		}
		d.stop(v.due)
		return
	case !v.tried: // it ended without an attempt
	case d.fifo:
		d.takeHead(v)
	case v.reason != "" && v.outcome == core.OutcomeRetry && d.probing:
		d.takeProbe(v)
	case v.reason == "" && d.probing:
		d.recovered()
		d.obey(v.condition)
	default:
		d.obey(v.condition)
	}
	v.condition = core.Condition{} // the drain's business, see release
	d.collected = append(d.collected, v)
	d.urgent = d.urgent || v.urgent()
}

// takeProbe takes in a failed probe: its delivery stays at the head, whatever its
// count of attempts is, and is probed with again.
func (d *drain) takeProbe(v *verdict) {
	if v.disabling() != "" && v.disabling() != core.ReasonFailing {
		return
	}
	v.aged = false // by its own schedule; when it is too old it is not sent any more
	c := &d.claim.Condition
	c.Probes++
	next := d.s.now().Add(pace.ProbeInterval(c.Probes))
	d.keepHead(v, laterOf(next, askedUntil(v.condition)))
}

// takeHead takes in an attempt of a delivery that must not be overtaken: after a
// failure it stays at the head until it is due, unless it is dead.
func (d *drain) takeHead(v *verdict) {
	if v.step == stepRetry {
		c := &d.claim.Condition
		if c.State != core.StateFailing {
			*c = core.Condition{State: core.StateFailing, Since: d.s.now(), Head: c.Head, HeadAttempts: c.HeadAttempts}
		}
		d.keepHead(v, laterOf(v.delivery.Due, askedUntil(v.condition)))
		return
	}
	d.claim.Condition, d.probing = core.Condition{}, false
	if v.condition.State == core.StatePaused {
		d.obey(v.condition)
	}
}

// askedUntil returns how long an endpoint found in c is to be left alone; zero: not
// for that. For how long it counts as slow or throttled says nothing about it.
func askedUntil(c core.Condition) time.Time {
	if c.State == core.StateSlow || c.State == core.StateThrottled {
		return time.Time{}
	}
	return c.Until
}

// keepHead lets v's delivery stay at the head, to be tried again at next.
func (d *drain) keepHead(v *verdict, next time.Time) {
	c := &d.claim.Condition
	if c.Head != v.delivery.ID {
		c.Head, c.HeadAttempts = v.delivery.ID, 0
	}
	c.HeadAttempts++
	c.Until = next
	v.step, v.status, v.row.Status, v.row.NextAt = stepStay, core.StatusRetrying, core.StatusRetrying, next
	d.stop(next)
}

// recovered closes the circuit: the rest of the backlog may flow.
func (d *drain) recovered() {
	d.probing = false
	d.s.logger.Info("endpoint works again: its backlog is worked off", "organization", d.claim.Endpoint.Organization,
		"endpoint", d.claim.Endpoint.ID, "failing_since", d.claim.Condition.Since, "probes", d.claim.Condition.Probes+1)
	d.s.metrics.conditions[core.StateCatchingUp].Inc()
	d.claim.Condition = core.Condition{State: core.StateCatchingUp, Since: d.s.now()}
	d.holdNow()
}

// obey does what an attempt said about the endpoint.
func (d *drain) obey(c core.Condition) {
	switch c.State {
	case core.StateFailing, core.StatePaused:
		d.claim.Condition = c
		d.stop(c.Until)
	case core.StateSlow, core.StateThrottled:
		d.lane = c
	}
}
