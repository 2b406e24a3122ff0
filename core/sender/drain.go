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

	revision uint64 // of the endpoint's URL, as adapt read it last

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
	since    time.Time      // what bundles' attempts have found later than that is news, see heed; zero: nothing is

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
	switch c.Condition.State {
	case core.StateSlow, core.StateThrottled:
		d.lane, d.since = c.Condition, c.Condition.Since
	case "":
		d.since = s.now()
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
	case d.heed():
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
		d.revision = e.URLRevision
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

// heed stops the drain if the endpoint was found to fail, or asked for a pause, by
// attempts of this sender that are not the drain's, and reports whether it has: those
// that were in flight when the endpoint was found to be throttled may open its circuit.
// What other senders find the drain finds by its own attempts. Once a probe has succeeded
// they are old news.
func (d *drain) heed() bool {
	if d.stopping || d.fifo || d.since.IsZero() {
		return false
	}
	c := d.s.health.foundSince(d.claim.Endpoint.ID, d.revision, d.since, d.s.now())
	if c.State != core.StateFailing && c.State != core.StatePaused {
		return false
	}
	d.obey(c)
	return true
}

// start begins attempts, as many as there may be now.
func (d *drain) start() {
	d.rateWait = 0
	d.heed()
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
	d.s.watcher.Work(now)
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
	now := d.s.now()
	d.pace.Started(now)
	go func() {
		v := d.s.turn(d.lease, &w.Delivery, fromBacklog, now)
		v.entry = &w
		if place {
			<-d.s.drainPlaces
		}
		d.results <- v
	}()
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

// leavePlace gives back a place that no attempt took.
func (d *drain) leavePlace() {
	if d.place {
		<-d.s.drainPlaces
	}
}
