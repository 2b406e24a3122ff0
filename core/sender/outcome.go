package sender

import (
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/retry"
)

const (
	// holdTime is how long a delivery waits whose endpoint's secret cannot be
	// derived: an operator has to act, so there is no hurry.
	holdTime = 30 * time.Second

	// restartDelay is how long a delivery waits that met too many changes of its
	// endpoint, or got no connection because others use all that its host may have.
	restartDelay = time.Second

	// attemptSlack is what an attempt may take beyond the delivery timeout until
	// the next wait begins: recording it, and waking up on full seconds.
	attemptSlack = 2 * time.Second

	// lateness is how long after its due time a delivery is still tried although
	// its time to give up has come meanwhile. The last wait of a schedule may end
	// after that time, since jitter or the endpoint's Retry-After drew it out; and
	// with a schedule of seconds the first attempt may, when a sender died.
	lateness = time.Hour
)

// step is what has to be confirmed in Redis before a delivery is settled, in
// addition to its row and its mark.
type step int

const (
	stepNone  step = iota // delivered or discarded: nothing goes on
	stepRetry             // its own retry task
	stepDead              // a dead letter
	stepDefer             // back to the queue as it is, no attempt spent
	stepPark              // to the backlog of its endpoint as it is, no attempt spent
	stepStay              // none: it stays where it is in the backlog of its endpoint
	stepOpen              // none: the delivery stays unsettled, and its task comes back
)

// verdict is what came of a delivery in this run, and how far that is stored.
// Whoever settles it owns it.
type verdict struct {
	index    int           // in the bundle
	entry    *core.Waiting // in the backlog; of the delivery itself see delivery
	step     step
	outcome  core.Outcome // "" for a delivery that only goes back to the queue
	status   core.Status  // "" while the delivery goes on without an attempt
	reason   core.Reason  // "" when delivered or merely put back
	delivery core.Delivery
	row      core.Attempt
	due      time.Time // stepDefer: not before; stepPark: when the backlog has to be looked at; zero: at once
	revision uint64    // of the URL that was tried; 0: none was
	err      error     // stepOpen: why
	finding            // what the attempt told about its endpoint

	hasRow   bool
	aged     bool // given up because a further attempt would begin too late, see core.Event.TooOld
	overtime bool // the attempt left its slot before it ended
	asked    bool // the response asked to disable the endpoint, whatever its status

	confirmed bool // the step is done
	written   bool // row and mark were sent, and may have arrived
	settled   bool // row and mark are stored
}

// deadReason returns why the delivery becomes a dead letter. That is the last
// attempt's failure, unless only its age forbids another one.
func (v *verdict) deadReason() core.Reason {
	if v.aged {
		return core.ReasonExpired
	}
	return v.reason
}

// urgent reports whether the run has to know of v before anything else starts.
func (v *verdict) urgent() bool {
	return v.step == stepOpen || v.outcome == core.OutcomeGone || v.asked
}

// disabling returns why the endpoint is to be disabled; "" if it is not.
func (v *verdict) disabling() core.Reason {
	switch {
	case v.outcome == core.OutcomeGone:
		return v.reason
	case v.asked:
		return core.ReasonDisableAsked
	case v.tooLong:
		return core.ReasonFailing
	}
	return ""
}

// judge decides what an attempt means for its delivery. It is pure apart from
// the jitter.
func (s *Sender) judge(d *core.Delivery, rec *record, res *egress.Result, via way, began, ended time.Time) *verdict {
	v := &verdict{delivery: *d, revision: rec.endpoint.URLRevision}
	v.outcome, v.reason = classify(res)
	v.delivery.Attempts++
	v.delivery.Due = time.Time{}
	var next time.Time
	v.asked = res.Disable
	switch v.outcome {
	case core.OutcomeDelivered:
		v.status = core.StatusDelivered
	case core.OutcomeGone:
		v.status, v.step = core.StatusFailed, stepDead
	default:
		due, ok := s.nextDue(&v.delivery, res.RetryAfter, via, ended)
		if !ok || late(d, rec, due) {
			v.status, v.step, v.aged = core.StatusFailed, stepDead, ok
			break
		}
		v.status, v.step, v.delivery.Due, next = core.StatusRetrying, stepRetry, due, due
	}
	v.addRow(began, ended)
	v.row.ResponseStatus = res.Status
	v.row.NextAt = next
	return v
}

// classify returns what the response, or its absence, means.
func classify(res *egress.Result) (core.Outcome, core.Reason) {
	if res.Status != 0 {
		outcome, reason := retry.Classify(res.Status)
		if res.Disable && outcome == core.OutcomeRetry {
			reason = core.ReasonDisableAsked
			outcome = retry.OutcomeOf(reason)
		}
		return outcome, reason
	}
	reason := res.Reason
	if reason == "" {
		// The request was begun, then its connection was lost, and on the second
		// one it was not repeated because its record had changed.
		reason = core.ReasonConnectionLost
	}
	return retry.OutcomeOf(reason), reason
}

// nextDue returns when the attempt after d's last one is due, or false when d
// has to be given up. A Retry-After can only make the wait longer.
func (s *Sender) nextDue(d *core.Delivery, retryAfter string, via way, now time.Time) (time.Time, bool) {
	wait, ok := s.schedule.Delay(d.Attempts, s.rand())
	if !ok || s.over(d, via, now) {
		return time.Time{}, false
	}
	if asked, ok := retry.ParseRetryAfter(retryAfter, now); ok {
		wait = max(wait, asked)
	}
	due := now.Add(wait)
	// Due times are kept in milliseconds: round up, never send early.
	if whole := due.Truncate(time.Millisecond); whole.Before(due) {
		due = whole.Add(time.Millisecond)
	}
	return due, true
}

// giveUpAt returns the time after which no further attempt of d is planned: when
// the whole schedule has passed since d was made: accepted, or replayed. The waits are
// counted without jitter, which evens out; each attempt adds its timeout and the
// granularity of the queue. So the time ends a delivery only when something else
// than its schedule drew it out.
func (s *Sender) giveUpAt(d *core.Delivery) time.Time { return d.CreatedAt().Add(s.lifetime) }

// over reports whether the time of d is over at now, so that no further attempt is
// planned. What waited in a backlog for others' sake has as long as it may wait there.
func (s *Sender) over(d *core.Delivery, via way, now time.Time) bool {
	if via == fromBacklog {
		return s.expired(d, via, now)
	}
	return !now.Before(s.giveUpAt(d))
}

// expired reports whether d has to be given up without another attempt. In a
// backlog it may wait longer: it was not the delivery's own failures that held it
// up.
func (s *Sender) expired(d *core.Delivery, via way, now time.Time) bool {
	if via == fromBacklog {
		return !now.Before(d.CreatedAt().Add(max(s.lifetime, s.backlogRetention)))
	}
	due := d.Due
	if due.IsZero() {
		due = d.Event.AcceptedAt
	}
	return now.After(due.Add(lateness)) && !now.Before(s.giveUpAt(d))
}

// late reports whether an attempt of d under rec may not begin at at any more,
// because of the event's age. rec is nil where the endpoint is not known.
func late(d *core.Delivery, rec *record, at time.Time) bool {
	var endpoint *core.Endpoint
	if rec != nil {
		endpoint = rec.endpoint
	}
	limit := d.Event.TooOld(endpoint)
	return !limit.IsZero() && !at.Before(limit)
}

// ended is the verdict on a delivery that ends without an attempt: discarded if
// its endpoint is deleted, else a dead letter.
func ended(d *core.Delivery, reason core.Reason, now time.Time) *verdict {
	v := &verdict{delivery: *d, outcome: retry.OutcomeOf(reason), reason: reason, status: core.StatusDiscarded}
	if reason != core.ReasonDeleted {
		v.status, v.step = core.StatusFailed, stepDead
		v.addRow(now, now)
	}
	return v
}

// held is the verdict on a delivery that cannot be signed: it waits, until its
// time to give up or until it would be too old.
func (s *Sender) held(d *core.Delivery, rec *record, via way, now time.Time) *verdict {
	switch {
	case s.over(d, via, now):
		return ended(d, core.ReasonSigningKey, now)
	case late(d, rec, now.Add(holdTime)):
		return ended(d, core.ReasonExpired, now)
	}
	return &verdict{
		delivery: *d, outcome: core.OutcomeHold, reason: core.ReasonSigningKey,
		step: stepDefer, due: now.Add(holdTime),
	}
}

// postponed is the verdict on a delivery that could not be tried for a reason
// that will pass soon: it waits, until its time to give up or until it would be
// too old.
func (s *Sender) postponed(d *core.Delivery, rec *record, via way, now time.Time) *verdict {
	if s.over(d, via, now) || late(d, rec, now.Add(restartDelay)) {
		return ended(d, core.ReasonExpired, now)
	}
	return putBack(d, now.Add(restartDelay))
}

// putBack is the verdict on a delivery that goes back to the queue as it is.
func putBack(d *core.Delivery, due time.Time) *verdict {
	return &verdict{delivery: *d, step: stepDefer, due: due}
}

// parked is the verdict on a delivery that goes to its endpoint's backlog, because
// of c if that is one, to be looked at when due.
func parked(d *core.Delivery, c core.Condition, due time.Time) *verdict {
	return &verdict{delivery: *d, step: stepPark, due: due, finding: finding{condition: c}}
}

// open is the verdict on a delivery that could not be judged because of err.
func open(err error) *verdict { return &verdict{step: stepOpen, err: err} }

// discard turns v into the verdict on a delivery whose endpoint was deleted
// while its attempt ran: nobody is left to retry for, and no log to write to.
func (v *verdict) discard() {
	v.step, v.status, v.hasRow = stepNone, core.StatusDiscarded, false
}

// addRow fills in the row of the endpoint's log.
func (v *verdict) addRow(began, ended time.Time) {
	d := &v.delivery
	v.hasRow = true
	v.row = core.Attempt{
		Delivery: d.ID, Event: d.Event.ID, EventType: d.Event.Type, Endpoint: d.Endpoint,
		Number: d.Attempts, Status: v.status, Reason: v.reason,
		StartedAt: began, Latency: max(ended.Sub(began), 0),
	}
}
