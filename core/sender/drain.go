package sender

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/pace"
)

const (
	// drainTick is how often a drain looks at what does not announce itself: more
	// deliveries in the backlog, other limits of the endpoint.
	drainTick = 100 * time.Millisecond

	// drainAhead is how many deliveries of a backlog are read at a time.
	drainAhead = 128

	// fifoAhead is the same where one is sent at a time.
	fifoAhead = 16

	// holdInterval is how often a claim is held again.
	holdInterval = core.ClaimLease / 3

	// resultsAhead is how many attempts can end without waiting for the drain.
	resultsAhead = 16

	// rereadAfter is how long after a read that reached the end of a backlog it is
	// read again while attempts are in flight.
	rereadAfter = 20 * time.Millisecond

	// drainsPerSlot is how many attempts out of backlogs may be in flight for each
	// slot of the process. They have places of their own, so that slow endpoints
	// hold up nobody: what they cost is memory and a connection.
	drainsPerSlot = 4
)

// errClaimLost says that another drain may be at work on the same backlog.
var errClaimLost = errors.New("the claim on the backlog is lost")

// drain works one backlog off, oldest first, at the endpoint's pace. Its goroutine
// owns everything in it.
//
//	claimed ── circuit open? ── yes ─▶ probe: the oldest delivery ── fails ─▶ released until the next probe
//	              │ no                      │ succeeds
//	              ▼                         ▼
//	          catching up ◀─────────────────┘
//	              │  ├─ circuit opens, pause, disabled, error ─▶ released until then
//	              ▼
//	          nothing waits ─▶ released for good
type drain struct {
	s *Sender
	lease
	end context.CancelCauseFunc // of the lease

	claim   core.Claim // its Condition is the present one
	heldAt  time.Time
	probing bool // the circuit is open: one attempt at a time, until one succeeds
	fifo    bool // one attempt at a time, and the head blocks

	pace    *pace.Pace
	results chan *verdict

	ahead  []core.Waiting // read and not started, oldest first
	cursor string         // the last entry that was read; "": none
	begun  string         // the last entry that was started; "": none
	readAt time.Time      // when the backlog was last read to its end; zero: it was not

	inFlight  int
	collected []*verdict // to be settled
	urgent    bool       // at once

	place    bool           // holds a place for the next attempt
	rateWait time.Duration  // until the rate allows the next one; 0: it does
	lane     core.Condition // slow or throttled, as found last

	stopping bool      // nothing new is started
	due      time.Time // stopping: when the backlog has to be looked at next; zero: at once
	lost     bool      // stopping: the claim is somebody else's

	trimmedAt time.Time // when the backlog was last found to be within its bounds
}

// drainBacklog works off the backlog that c claims, until nothing waits there or
// nothing may be sent now.
func (s *Sender) drainBacklog(ctx context.Context, c core.Claim) {
	s.metrics.drains.Inc()
	defer s.metrics.drains.Dec()
	leased, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	d := &drain{
		s: s, lease: newLease(leased), end: end, claim: c, heldAt: s.now(),
		probing: c.Condition.State == core.StateFailing,
		pace:    pace.New(s.now(), s.perEndpoint, 0),
		results: make(chan *verdict, resultsAhead),
	}
	if c.Condition.State == core.StateSlow || c.Condition.State == core.StateThrottled {
		d.lane = c.Condition
	}
	d.run(ctx.Done())
}

// run is the drain's loop. stop ends it in good order.
func (d *drain) run(stop <-chan struct{}) {
	ticker := time.NewTicker(drainTick)
	defer ticker.Stop()
	defer d.leavePlace()
	switch c := &d.claim.Condition; {
	case c.Until.After(d.s.now().Add(drainTick)) && (c.State == core.StateFailing || c.State == core.StatePaused):
		d.stop(c.Until)
		d.trim() // it is not due, so this is why it was claimed
	case !d.adapt():
		d.stop(d.s.now().Add(time.Second)) // nothing is begun under limits that are not known
	case !d.probing:
		d.catchUp()
	}
	for {
		d.start()
		switch {
		case d.settleDue(false):
			d.settle()
		case d.inFlight > 0 || len(d.collected) > 0 || d.wantsPlace():
			d.wait(stop, ticker.C)
		case d.finish(stop):
			return
		}
	}
}

// wait blocks until something happens and takes note of it.
func (d *drain) wait(stop <-chan struct{}, tick <-chan time.Time) {
	var places chan<- struct{}
	if d.wantsPlace() {
		places = d.s.drainPlaces
	}
	if d.stopping {
		stop = nil
	}
	var rate <-chan time.Time
	if d.rateWait > 0 && !d.stopping {
		t := time.NewTimer(d.rateWait)
		defer t.Stop()
		rate = t.C
	}
	select {
	case v := <-d.results:
		d.take(v)
	case places <- struct{}{}:
		d.place = true
	case <-rate:
	case <-tick:
		d.hold()
		d.adapt()
		if d.settleDue(true) {
			d.settle()
		}
	case <-stop:
		d.stop(time.Time{})
	}
}

// adapt reads the endpoint's limits. It reports whether they are known.
func (d *drain) adapt() bool {
	rec, err := d.s.records.get(d.ctx, d.claim.Endpoint)
	if err != nil {
		return false
	}
	if e := rec.endpoint; e != nil {
		most := d.s.perEndpoint
		if e.MaxInFlight > 0 {
			most = e.MaxInFlight
		}
		if d.fifo = e.FIFO; d.fifo {
			most = 1
		}
		d.pace.SetLimits(most, e.RateLimit)
	}
	return true
}

// catchUp makes senders park what comes behind the backlog, so that it stays in
// order, unless they do for long enough by themselves.
func (d *drain) catchUp() {
	rec, err := d.s.records.get(d.ctx, d.claim.Endpoint)
	if err == nil && rec.endpoint != nil && (rec.endpoint.Paced() || !rec.endpoint.Enabled) {
		return // its deliveries are parked in any case
	}
	if c := &d.claim.Condition; c.State == core.StateCatchingUp || c.Parks(d.s.now().Add(2*holdInterval)) {
		return
	}
	d.claim.Condition = core.Condition{State: core.StateCatchingUp, Since: d.s.now()}
	d.holdNow()
}

// start begins attempts, as many as there may be now.
func (d *drain) start() {
	d.rateWait = 0
	if !d.stopping && d.s.now().Sub(d.heldAt) >= core.ClaimLease {
		d.holdNow() // the process was frozen: the claim may be another's by now
	}
	for d.mayStart() {
		if d.lacksPlace() {
			select {
			case d.s.drainPlaces <- struct{}{}:
				d.place = true
			default:
				return
			}
		}
		w := d.ahead[0]
		d.ahead = d.ahead[1:]
		d.begin(w)
	}
}

// mayStart reports whether the next attempt may begin now, apart from its place.
func (d *drain) mayStart() bool {
	if d.stopping || !d.read() {
		return false
	}
	if d.probing || d.fifo {
		// The head is settled before anything follows it: after a crash the order is
		// still right.
		if d.inFlight+len(d.collected) > 0 {
			return false
		}
	}
	if d.lacksPlace() && d.hasShare() {
		return false
	}
	ok, wait := d.pace.MayStart(d.s.now(), d.inFlight)
	d.rateWait = wait
	return ok
}

// lacksPlace reports whether the next attempt needs a place and has none. A probe
// needs none: there is one at a time in each drain, and most of them take long.
func (d *drain) lacksPlace() bool { return !d.place && !d.probing }

// hasShare reports whether the drain has its share of the places in use. A quarter
// of them is nobody's, so that a drain that begins finds some however slow the
// endpoints of the others are.
func (d *drain) hasShare() bool {
	share := cap(d.s.drainPlaces) * 3 / 4 / max(len(d.s.drains), 1)
	return d.inFlight >= max(share, 1)
}

// wantsPlace reports whether only a place is missing for the next attempt.
func (d *drain) wantsPlace() bool { return d.lacksPlace() && d.mayStart() }

// read reports whether a delivery is at hand, reading more of the backlog if need
// be.
func (d *drain) read() bool {
	now := d.s.now()
	if len(d.ahead) > 0 {
		return true
	}
	if !d.readAt.IsZero() && (d.inFlight == 0 || now.Sub(d.readAt) < rereadAfter) {
		return false // at its end; with nothing in flight finish looks again
	}
	ctx, cancel := context.WithTimeout(d.detached, settleCall)
	defer cancel()
	ahead := d.pageSize()
	page, err := d.s.store.Backlog(ctx, d.claim.Endpoint, d.cursor, ahead)
	if err != nil {
		d.s.logger.Warn("a backlog could not be read", "endpoint", d.claim.Endpoint.ID, "error", err)
		d.stop(now.Add(holdTime))
		return false
	}
	d.readAt = time.Time{}
	if len(page) == 0 {
		d.readAt = now
		return false
	}
	if len(page) == ahead && d.trim() {
		return d.read() // what was read is gone
	}
	d.ahead, d.cursor = page, page[len(page)-1].Entry
	return true
}

// pageSize is how many deliveries are read at a time: no more than are soon sent.
func (d *drain) pageSize() int {
	switch {
	case d.probing:
		return 1
	case d.fifo:
		return fifoAhead
	}
	return drainAhead
}

// begin starts an attempt of w's delivery.
func (d *drain) begin(w core.Waiting) {
	place := d.place
	d.place, d.begun = false, w.Entry
	c := &d.claim.Condition
	if c.Head == w.Delivery.ID {
		w.Delivery.Attempts += c.HeadAttempts
	}
	d.inFlight++
	d.pace.Started(d.s.now())
	go func() {
		v := d.s.turn(d.lease, &w.Delivery, fromBacklog)
		v.entry = w
		if place {
			<-d.s.drainPlaces
		}
		d.results <- v
	}()
}

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

// stop ends the starting of attempts; the backlog has to be looked at next when
// due, zero: at once. Of two times the later one counts.
func (d *drain) stop(due time.Time) {
	d.due = laterOf(d.due, due)
	d.stopping = true
}

// settleDue reports whether what is collected should be settled now.
func (d *drain) settleDue(tick bool) bool {
	return len(d.collected) > 0 && (tick || d.inFlight == 0 || len(d.collected) >= settleGroup || d.fifo || d.probing || d.urgent)
}

// settle stores what is collected, and holds the claim as long as that takes.
func (d *drain) settle() {
	books := d.s.drainBooks(d.detached, d.claim.Endpoint)
	end := d.s.now().Add(settlePatience)
	err := books.settle(d.collected, 0, holdInterval)
	for err != nil && d.s.now().Before(end) {
		d.hold()
		err = books.settle(d.collected, 0, holdInterval)
	}
	d.collected, d.urgent = nil, false
	if err != nil {
		// They stay in the backlog, and so are sent again.
		d.s.logger.Error("results of attempts out of a backlog are lost: they will be sent again",
			"endpoint", d.claim.Endpoint.ID, "error", err)
		d.stop(d.s.now().Add(time.Second))
	}
}

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

// leavePlace gives back a place that no attempt took.
func (d *drain) leavePlace() {
	if d.place {
		<-d.s.drainPlaces
	}
}
