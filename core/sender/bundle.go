package sender

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/core"
)

const (
	// settleGroup is from how many results on they are settled before settleInterval is
	// over, see settleDue.
	settleGroup = 64

	// settleInterval is how long a result may wait for others to be settled with; it
	// bounds what a crash sends twice.
	settleInterval = 50 * time.Millisecond
)

// run is one run of a bundle: an event loop whose goroutine owns everything in
// it, except the lanes, which it shares with its workers, and what is handed to
// a settling under way.
type run struct {
	s *Sender
	lease
	b     *core.Bundle
	books books
	limit time.Time // nothing is started after it

	admission *admission
	seat      *seat // in the queue for slots of the process; nil until it is needed

	lanes    lanes
	shift    *shift // nil when alone
	waiter   *waiter
	pending  int  // deliveries to be worked off
	admitted int  // of these, places in the process's admission still held
	alone    bool // one delivery only: everything runs in the loop's goroutine

	done       int        // deliveries settled, by earlier runs too
	collected  []*verdict // to be settled
	settling   []*verdict // being settled; nil: nothing is
	settleDone chan error
	settleNow  bool // what is collected must not wait for more

	settleTick *time.Ticker // nil when alone
	limitTick  *time.Timer  // nil until it is needed

	halted       bool  // nothing new is started
	settleFailed bool  // one last settling is left
	err          error // what Handle will return
}

func (s *Sender) newRun(ctx context.Context, b *core.Bundle) *run {
	r := &run{
		s: s, lease: newLease(ctx), b: b,
		limit:  s.now().Add(s.startLimit),
		waiter: newWaiter(b.Bulk), settleDone: make(chan error, 1), admission: s.admission,
	}
	r.books = books{s: s, detached: r.detached, name: b.ID, source: r, write: s.write}
	if b.Bulk {
		r.admission = s.bulk
	}
	r.lanes = lanes{bulk: b.Bulk, slots: s.slots, limits: s.limits, waiter: r.waiter, all: make(map[string]*lane, 1)}
	for i := range b.Deliveries {
		if i < len(b.Settled) && b.Settled[i] {
			r.done++
			continue
		}
		r.pending++
		r.lanes.add(b.Deliveries[i].Endpoint, i)
	}
	if r.alone = r.pending == 1; r.alone {
		r.books.write = s.joint.record
	}
	return r
}

// refs returns the names of the endpoints with pending deliveries. It is for the
// time before the run begins.
func (r *run) refs() []core.EndpointRef {
	refs := make([]core.EndpointRef, 0, len(r.lanes.ready))
	for _, l := range r.lanes.ready {
		refs = append(refs, r.b.Deliveries[l.indexes[0]].Ref())
	}
	return refs
}

// loop runs the bundle to its end.
func (r *run) loop() error {
	if !r.alone {
		r.settleTick = time.NewTicker(settleInterval)
	}
	defer r.stopTimers()
	for {
		r.takeAll() // an urgent verdict comes before anything new
		r.checkStops()
		r.dispatch()
		r.takeAll()
		if r.settling == nil {
			if r.lanes.over() {
				return r.finish()
			}
			if r.settleDue() {
				r.startSettling()
			}
		}
		r.wait()
	}
}

// dispatch starts workers as long as there are slots.
func (r *run) dispatch() {
	for r.lanes.wantsSlot() && r.s.slots.tryEnter(r.b.Bulk) {
		r.startWorker()
	}
}

// startWorker starts a worker with the next delivery whose endpoint is not full.
// The caller has taken a slot of the process, which is given back if there is
// none.
func (r *run) startWorker() {
	l, i, crowded := r.lanes.begin()
	r.leaveAdmission(crowded) // a slow endpoint must not keep other bundles out
	switch {
	case l == nil:
		r.s.slots.leave(r.b.Bulk)
	case r.alone:
		r.work(l, i)
	default:
		r.shift.do(job{r, l, i})
	}
}

// work sends delivery i, and what follows it in its lane.
func (r *run) work(l *lane, i int) {
	since := r.s.now()
	w := r.s.overtime.add(r)
	defer r.s.overtime.remove(w)
	for now := since; ; {
		d := &r.b.Deliveries[i]
		w.start(d, now)
		v := r.s.turn(r.lease, d, express, now)
		v.index, v.overtime = i, r.s.overtime.stop(w)
		mayStart := r.ctx.Err() == nil && !r.s.isDraining()
		now = r.s.now()
		var ok bool
		if i, ok = r.lanes.next(l, v, mayStart, now.Sub(since)); !ok {
			return
		}
	}
}

// leaveSlot gives back what an attempt in overtime must not hold: its slot and its
// place in the admission. It is called by the watch.
func (r *run) leaveSlot() {
	r.s.slots.leave(r.b.Bulk)
	if r.alone { // and so the loop's goroutine is the one that is in the attempt
		r.admission.leave(r.admitted)
		return
	}
	r.lanes.late()
}

// takeAll receives what the workers found.
func (r *run) takeAll() {
	verdicts, late := r.lanes.collect()
	r.leaveAdmission(late)
	for _, v := range verdicts {
		switch {
		case !v.overtime:
			r.leaveAdmission(1)
		case r.alone:
			r.admitted = 0 // see leaveSlot
		}
		if v.step == stepOpen {
			r.fail(v.err)
			continue
		}
		r.collected = append(r.collected, v)
		if v.outcome == core.OutcomeGone || v.asked {
			r.settleNow = true // the sooner the endpoint is disabled, the fewer requests it still gets
		}
	}
}

// leaveAdmission gives back the places of deliveries that keep no slot busy.
func (r *run) leaveAdmission(deliveries int) {
	deliveries = min(deliveries, r.admitted)
	r.admitted -= deliveries
	r.admission.leave(deliveries)
}

// wait blocks until something happens and takes note of it.
func (r *run) wait() {
	var slot <-chan struct{}
	if r.lanes.wantsSlot() {
		if r.seat == nil {
			r.seat = newSeat(r.b.Bulk)
		}
		slot = r.s.slots.wait(r.seat)
	}
	var lease, draining <-chan struct{}
	var limit, tick <-chan time.Time
	if !r.halted {
		if r.limitTick == nil {
			r.limitTick = time.NewTimer(r.limit.Sub(r.s.now()))
		}
		lease, draining, limit = r.ctx.Done(), r.s.draining, r.limitTick.C
	}
	if r.settleTick != nil {
		tick = r.settleTick.C
	}
	act := func() {} // when the wait is over, and others are no longer told of it
	select {
	case <-slot:
	case <-r.waiter.bell:
		act = r.lanes.receiveSlots
	case err := <-r.settleDone:
		act = func() { r.endSettling(err) }
	case <-tick:
		act = func() {
			r.takeAll()
			r.settleNow = len(r.collected) > 0
		}
	case <-limit:
		act = r.putBackRest
	case <-lease: // for these two see checkStops
	case <-draining:
	}
	granted := slot != nil && r.s.slots.endWait(r.seat)
	act()
	if granted {
		r.checkStops()
		r.startWorker()
	}
}

// settleDue reports whether what is collected should be settled now. Results
// are settled in groups, because a write costs about the same for one as for
// many; they wait for each other for settleInterval. A group that would leave only
// a few behind waits for these.
func (r *run) settleDue() bool {
	if len(r.collected) == 0 || r.settleFailed {
		return false
	}
	left := len(r.b.Deliveries) - r.done - len(r.collected)
	return r.settleNow || len(r.collected) >= settleGroup && left >= settleGroup/2
}

// startSettling settles what is collected while the loop goes on.
func (r *run) startSettling() {
	r.settling, r.collected, r.settleNow = r.collected, nil, false
	verdicts, done := r.settling, r.done
	go func() { r.settleDone <- r.books.settle(verdicts, done, settlePatience) }()
}

// endSettling takes back what startSettling gave away.
func (r *run) endSettling(err error) {
	left := r.count(r.settling)
	r.settling = nil
	if err == nil {
		return
	}
	r.collected = append(left, r.collected...)
	r.settleFailed = true
	r.fail(err)
}

// count adds the settled verdicts to those done and returns the others.
func (r *run) count(verdicts []*verdict) (left []*verdict) {
	for _, v := range verdicts {
		if v.settled {
			r.done++
		} else {
			left = append(left, v)
		}
	}
	return left
}

// finish settles what is left, in the loop's goroutine, and returns the result
// of the run.
func (r *run) finish() error {
	if len(r.collected) > 0 {
		patience := settlePatience
		if r.settleFailed {
			patience = lastPatience
		}
		err := r.books.settle(r.collected, r.done, patience)
		left := r.count(r.collected)
		if err != nil {
			return errors.Join(r.err, err)
		}
		r.collected = left
	}
	if r.done == len(r.b.Deliveries) {
		r.b.Ended = true // by the record that brought the last mark
		return nil
	}
	return r.err
}

// abandon ends what a panic of the loop left: its workers begin nothing more, and a slot
// that came for it goes to others. After an orderly end there is nothing of it.
func (r *run) abandon() {
	r.lanes.halt()
	if r.seat != nil && r.s.slots.endWait(r.seat) {
		r.s.slots.leave(r.b.Bulk)
	}
}

func (r *run) stopTimers() {
	if r.settleTick != nil {
		r.settleTick.Stop()
	}
	if r.limitTick != nil {
		r.limitTick.Stop()
	}
}
