package sender

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/core"
)

const (
	// settleGroup is how many results are settled together at most; with the next
	// constant it bounds what a crash sends twice.
	settleGroup = 64

	// settleInterval is how long a result may wait for others to be settled with.
	settleInterval = 50 * time.Millisecond
)

// run is one run of a bundle: an event loop whose goroutine owns everything in
// it, except what is handed to an attempt or to a settling under way.
type run struct {
	s        *Sender
	ctx      context.Context // the lease
	detached context.Context // the same values, never cancelled
	b        *core.Bundle
	limit    time.Time // nothing is started after it

	lanes   map[string]*lane // all of them, by endpoint
	ready   []*lane          // may start a delivery, in turn
	waiting int              // lanes that wait for a slot of their endpoint
	waiter  *waiter

	pending  int           // deliveries to be worked off
	admitted int           // of these, places in the process's admission still held
	alone    bool          // one delivery only: everything runs in the loop's goroutine
	running  int           // attempts in flight
	results  chan *verdict // of attempts; never blocks a sender

	done       int        // deliveries settled, by earlier runs too
	collected  []*verdict // to be settled
	settling   []*verdict // being settled; nil: nothing is
	settleDone chan error
	settleNow  bool // what is collected must not wait for more

	settleTick *time.Timer // nil until it is needed
	limitTick  *time.Timer // nil until it is needed

	halted       bool  // nothing new is started
	settleFailed bool  // one last settling is left
	err          error // what Handle will return
}

// lane is what a bundle holds for one endpoint. A slot of the endpoint that an
// attempt leaves stays with the lane while it has more to send: of many bundles
// for one endpoint the first is finished first, rather than all a little.
type lane struct {
	endpoint string
	indexes  []int // deliveries not started yet, oldest first
	held     int   // slots of the endpoint that no attempt uses; at most len(indexes)
	waiting  bool  // until the limiter grants a slot
	ready    bool  // stands in run.ready
}

func (s *Sender) newRun(ctx context.Context, b *core.Bundle) *run {
	r := &run{
		s: s, ctx: ctx, detached: context.WithoutCancel(ctx), b: b,
		limit:  s.now().Add(s.startLimit),
		lanes:  make(map[string]*lane, 1),
		waiter: newWaiter(), settleDone: make(chan error, 1),
	}
	for i := range b.Deliveries {
		if i < len(b.Settled) && b.Settled[i] {
			r.done++
			continue
		}
		r.pending++
		endpoint := b.Deliveries[i].Endpoint
		l := r.lanes[endpoint]
		if l == nil {
			l = &lane{endpoint: endpoint, ready: true}
			r.lanes[endpoint] = l
			r.ready = append(r.ready, l)
		}
		l.indexes = append(l.indexes, i)
	}
	r.alone = r.pending == 1
	if !r.alone {
		r.results = make(chan *verdict, r.pending)
	}
	return r
}

// refs returns the names of the endpoints with pending deliveries.
func (r *run) refs() []core.EndpointRef {
	refs := make([]core.EndpointRef, 0, len(r.ready))
	for _, l := range r.ready {
		refs = append(refs, r.b.Deliveries[l.indexes[0]].Ref())
	}
	return refs
}

// loop runs the bundle to its end.
func (r *run) loop() error {
	defer r.stopTimers()
	for {
		r.checkStops()
		r.dispatch()
		if r.settling == nil {
			if r.idle() {
				return r.finish()
			}
			if r.settleDue() {
				r.startSettling()
			}
		}
		r.wait()
	}
}

// idle reports whether no attempt is in flight and none is left to start.
func (r *run) idle() bool { return r.running == 0 && len(r.ready) == 0 && r.waiting == 0 }

// dispatch starts deliveries as long as there are slots.
func (r *run) dispatch() {
	for len(r.ready) > 0 {
		select {
		case r.s.slots <- struct{}{}:
			r.startNext()
		default:
			return
		}
	}
}

// startNext starts the next delivery whose endpoint is not full. The caller has
// taken a slot of the process, which is given back if there is none.
func (r *run) startNext() {
	for len(r.ready) > 0 {
		l := r.ready[0]
		r.ready, l.ready = r.ready[1:], false
		switch {
		case l.held > 0:
			l.held--
		case l.waiting:
			continue
		case !r.s.limits.acquire(l.endpoint, r.waiter):
			l.waiting = true
			r.waiting++
			r.leaveAdmission(len(l.indexes)) // a slow endpoint must not keep other bundles out
			continue
		}
		i := l.indexes[0]
		l.indexes = l.indexes[1:]
		if len(l.indexes) > 0 {
			r.makeReady(l)
		} else if l.waiting {
			r.s.limits.cancel(l.endpoint, r.waiter)
			l.waiting = false
			r.waiting--
		}
		r.start(i)
		return
	}
	<-r.s.slots
}

// makeReady puts a lane with deliveries into its turn.
func (r *run) makeReady(l *lane) {
	if !l.ready {
		l.ready = true
		r.ready = append(r.ready, l)
	}
}

// start runs delivery i, whose slots are taken.
func (r *run) start(i int) {
	r.running++
	if r.alone {
		r.take(r.turn(i))
		return
	}
	go func() { r.results <- r.turn(i) }()
}

// take receives the verdict of an attempt, and its slot of the endpoint.
func (r *run) take(v *verdict) {
	r.running--
	r.leaveAdmission(1)
	r.keep(r.lanes[r.b.Deliveries[v.index].Endpoint])
	if v.step == stepOpen {
		r.fail(v.err)
		return
	}
	r.collect(v)
	if v.outcome == core.OutcomeGone {
		r.settleNow = true // the sooner the endpoint is disabled, the fewer requests it still gets
	}
}

// leaveAdmission gives back the places of deliveries that keep no slot busy.
func (r *run) leaveAdmission(deliveries int) {
	deliveries = min(deliveries, r.admitted)
	r.admitted -= deliveries
	r.s.admission.leave(deliveries)
}

func (r *run) collect(v *verdict) {
	if len(r.collected) == 0 && !r.alone {
		if r.settleTick == nil {
			r.settleTick = time.NewTimer(settleInterval)
		} else {
			r.settleTick.Reset(settleInterval)
		}
	}
	r.collected = append(r.collected, v)
}

// wait blocks until something happens and takes note of it.
func (r *run) wait() {
	var slots chan<- struct{}
	if len(r.ready) > 0 {
		slots = r.s.slots
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
	select {
	case slots <- struct{}{}:
		r.startNext()
	case v := <-r.results:
		r.take(v)
		r.takeAll()
	case <-r.waiter.wake:
		r.receiveSlots()
	case err := <-r.settleDone:
		r.endSettling(err)
	case <-tick:
		r.settleNow = len(r.collected) > 0
	case <-limit:
		r.putBackRest()
	case <-lease: // for these two see checkStops
	case <-draining:
	}
}

// takeAll takes the verdicts that are there already.
func (r *run) takeAll() {
	for {
		select {
		case v := <-r.results:
			r.take(v)
		default:
			return
		}
	}
}

// receiveSlots readies the lanes that were granted a slot of their endpoint.
func (r *run) receiveSlots() {
	for _, endpoint := range r.s.limits.take(r.waiter) {
		l := r.lanes[endpoint]
		l.waiting = false
		r.waiting--
		r.keep(l)
	}
}

// keep receives a slot of the lane's endpoint: for its next delivery, or to be
// given back when there is none without a slot.
func (r *run) keep(l *lane) {
	if len(l.indexes) == l.held {
		r.s.limits.release(l.endpoint)
		return
	}
	l.held++
	r.makeReady(l)
}

// settleDue reports whether what is collected should be settled now. Results
// are settled in groups, because a write costs about the same for one as for
// many; they wait for each other only while attempts are in flight.
func (r *run) settleDue() bool {
	if len(r.collected) == 0 || r.settleFailed {
		return false
	}
	return r.settleNow || len(r.collected) >= settleGroup || r.running == 0
}

// startSettling settles what is collected while the loop goes on.
func (r *run) startSettling() {
	r.settling, r.collected, r.settleNow = r.collected, nil, false
	verdicts, done := r.settling, r.done
	go func() { r.settleDone <- r.settle(verdicts, done, settlePatience) }()
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
		err := r.settle(r.collected, r.done, patience)
		left := r.count(r.collected)
		if err != nil {
			return errors.Join(r.err, err)
		}
		r.collected = left
	}
	if r.done == len(r.b.Deliveries) {
		return nil
	}
	return r.err
}

func (r *run) stopTimers() {
	for _, t := range []*time.Timer{r.settleTick, r.limitTick} {
		if t != nil {
			t.Stop()
		}
	}
}
