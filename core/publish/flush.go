package publish

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sealpost/sealpost/core"
)

var errFlushTimeout = errors.New("flush took longer than its budget")

// outcome is what became of one event of a request.
type outcome struct {
	event      *core.Event // nil: nothing is to be delivered
	deliveries int
	claim      int         // index of the event's own reservation; none: -1
	before     endpointSet // to which earlier holders of its reservation have stored it: they count among deliveries
	first      *outcome    // of the same event earlier in the same batch: it speaks for this one
	stored     []byte      // the first answer, when this is a repetition
	err        *core.Error // the event's own error
	failed     error       // the first delivery that is not confirmed
	notStored  int         // deliveries that are certainly not stored
}

// endpointSet are ids of endpoints.
type endpointSet = map[string]struct{}

// nothingStored reports whether no delivery can have reached the queue.
func (o *outcome) nothingStored() bool { return o.notStored == o.deliveries }

// organization is one organization's part in a flush.
type organization struct {
	name     string
	snapshot *snapshot // nil when nobody needs it, or with err
	err      error
}

// flush commits a group of requests. Flushes are used over and over,
// so that their slices are allocated once.
type flush struct {
	p             *Publisher
	line          line
	waiters       []*waiter
	organizations []organization
	names         []string       // of organizations, in the same order
	index         map[string]int // name → index
	claims        []core.Reservation
	states        []core.ReservationState // parallel to claims
	kept          []bool                  // parallel to claims: the answer has been kept already
	keyed         answering
	firsts        map[repeat]*outcome // of the batch whose events are being claimed
	draws         []core.Draw         // parallel to waiters; none without a quota
	drawClaims    [][2]int            // parallel to draws: from which to which claim
	deliveries    []core.Delivery
	owners        []*outcome // parallel to deliveries
	parkings      parkings
	finished      []core.Reservation
	released      []core.Reservation
	traced        traced
}

func newFlush(p *Publisher) *flush {
	return &flush{p: p, index: make(map[string]int), firsts: make(map[repeat]*outcome), parkings: newParkings()}
}

// run commits the requests of waiters, which the collector has given for a flush of l,
// until then, and answers them.
func (f *flush) run(l line, waiters []*waiter, until time.Time) {
	f.line, f.waiters = l, waiters
	var events int
	var bytes int64
	for _, w := range waiters {
		events, bytes = events+w.events, bytes+w.bytes
	}
	defer f.p.collector.release(f.line, events, bytes)
	defer f.reset()
	defer f.recover()

	f.gather()
	if len(f.waiters) == 0 {
		return
	}
	start := f.p.o.Now()
	f.noteTraces()
	defer func() {
		now := f.p.o.Now()
		f.p.metrics.flushed(events, now.Sub(start))
		f.endTraces(start, now)
	}()
	ctx, cancel := context.WithDeadlineCause(context.Background(), until, errFlushTimeout)
	defer cancel()
	f.prepare()
	if f.runUnmoved(ctx) {
		return
	}
	if err := f.begin(ctx); err != nil {
		f.traced.failure = core.CodeUnavailable
		f.answerAll(asUnavailable(detailUnconfirmed, err))
		return
	}
	f.match(ctx)
	f.p.collector.fannedOut(f.waiters, f.p.o.Now())
	for rest := f.waiters; len(rest) > 0; {
		n := f.cut(rest)
		f.enqueue(ctx, rest[:n])
		f.settle(rest[:n])
		rest = rest[n:]
	}
}

// recover answers what is left after a panic: nobody else would.
func (f *flush) recover() {
	if v := recover(); v != nil {
		f.p.o.Logger.Error("panic while storing events", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		f.answerAll(&core.Error{Code: core.CodeInternal, Detail: "internal error"})
	}
}

// reset drops every reference that the scratch slices hold.
func (f *flush) reset() {
	clear(f.waiters)
	clear(f.organizations)
	clear(f.names)
	clear(f.index)
	clear(f.claims)
	clear(f.states)
	f.keyed.reset()
	clear(f.firsts)
	clear(f.draws)
	clear(f.deliveries)
	clear(f.owners)
	f.parkings.reset()
	clear(f.finished)
	clear(f.released)
	f.waiters, f.organizations, f.names = f.waiters[:0], f.organizations[:0], f.names[:0]
	f.claims, f.states, f.kept = f.claims[:0], nil, f.kept[:0]
	f.draws, f.drawClaims = f.draws[:0], f.drawClaims[:0]
	f.deliveries, f.owners = f.deliveries[:0], f.owners[:0]
	f.finished, f.released = f.finished[:0], f.released[:0]
}

// gather keeps the waiters that have not left meanwhile.
func (f *flush) gather() {
	now := f.p.o.Now()
	kept := f.waiters[:0]
	for _, w := range f.waiters {
		if !w.state.CompareAndSwap(stateWaiting, stateTaken) {
			continue
		}
		if w.deadline.Sub(now) < minBudget {
			w.err = core.Unavailable(detailLate, nil)
			w.finish()
			continue
		}
		kept = append(kept, w)
	}
	clear(f.waiters[len(kept):])
	f.waiters = kept
}

// match finds for each organization that has events who gets them.
func (f *flush) match(ctx context.Context) {
	for _, w := range f.waiters {
		if w.skipped != nil || !w.hasEvents() {
			continue
		}
		o := &f.organizations[w.organization]
		if o.snapshot == nil && o.err == nil {
			o.snapshot, o.err = f.load(ctx, o.name)
		}
		if o.err != nil {
			w.skip(asUnavailable(detailUnconfirmed, o.err))
			continue
		}
		for i := range w.outcomes {
			if out := &w.outcomes[i]; out.event != nil {
				out.deliveries = o.snapshot.byType[out.event.Type].countWith(out.before)
				w.deliveries += out.deliveries - len(out.before)
			}
		}
		if w.deliveries > f.p.o.MaxDeliveries {
			w.skip(tooWide(w.deliveries, f.p.o.MaxDeliveries))
		}
	}
}

func (f *flush) load(ctx context.Context, name string) (*snapshot, error) {
	start := f.p.o.Now() // what is read later may only be newer
	endpoints, version, err := f.p.o.Store.Endpoints(ctx, name)
	if err != nil {
		return nil, err
	}
	s := newSnapshot(endpoints, version, start)
	f.p.snapshots.put(name, s)
	return s, nil
}

// skip keeps w's events out of the queue, err being its answer.
func (w *waiter) skip(err *core.Error) { w.skipped, w.deliveries = err, 0 }

func (w *waiter) hasEvents() bool {
	for i := range w.outcomes {
		if w.outcomes[i].event != nil {
			return true
		}
	}
	return false
}

// cut returns how many of the next requests are stored and answered together: as
// many as make MaxDeliveries, at least one. So a request with a wide fan-out
// delays others, but is not what they depend on. One that has come too late by
// then is not stored.
func (f *flush) cut(rest []*waiter) int {
	now := f.p.o.Now()
	deliveries := 0
	for i, w := range rest {
		if w.deliveries > 0 && w.deadline.Sub(now) < minBudget {
			w.skip(core.Unavailable(detailLate, errFlushTimeout))
		}
		deliveries += w.deliveries
		if i > 0 && deliveries > f.p.o.MaxDeliveries {
			return i
		}
	}
	return len(rest)
}

// enqueue stores a delivery for each event and endpoint that match.
func (f *flush) enqueue(ctx context.Context, part []*waiter) {
	for _, w := range part {
		if w.deliveries == 0 {
			continue
		}
		o := &f.organizations[w.organization]
		first := f.mark()
		for i := range w.outcomes {
			if out := &w.outcomes[i]; out.event != nil {
				m := f.mark()
				f.fanOut(o, w, out)
				f.keep(out.claim, m, out.compose)
			}
		}
		f.keep(w.claim, first, w.compose)
	}
	f.push(ctx)
}

// fanOut makes the deliveries of an event that are not stored yet.
func (f *flush) fanOut(o *organization, w *waiter, out *outcome) {
	to := o.snapshot.byType[out.event.Type]
	for _, endpoint := range to.direct {
		if _, ok := out.before[endpoint]; ok {
			continue
		}
		f.deliveries = append(f.deliveries, core.Delivery{
			ID: core.NewDeliveryID(out.event.AcceptedAt), Organization: o.name, Endpoint: endpoint, Event: out.event,
			Bulk: f.line == lineBulk,
		})
		f.owners = append(f.owners, out)
	}
	claim := f.claimOf(w, out)
	for _, p := range to.parked {
		if _, ok := out.before[p.id]; !ok {
			f.parkings.add(core.EndpointRef{Organization: o.name, ID: p.id}, p.look, out, claim)
		}
	}
}

// push stores what fanOut has gathered.
func (f *flush) push(ctx context.Context) {
	f.traced.deliveries += len(f.deliveries) + len(f.parkings.owners)
	f.traced.parked += len(f.parkings.owners)
	switch queued, parked := len(f.deliveries) > 0, len(f.parkings.all) > 0; {
	case queued && parked:
		f.pushBoth(ctx)
	case queued:
		f.pushQueue(ctx)
	case parked:
		f.noteParked(f.park(ctx))
	}
	f.dropGathered()
}

// dropGathered lets go of what fanOut has gathered.
func (f *flush) dropGathered() {
	clear(f.deliveries)
	clear(f.owners)
	f.deliveries, f.owners = f.deliveries[:0], f.owners[:0]
	f.keyed.reset()
	f.parkings.reset()
}

// pushQueue enqueues what does not go to backlogs.
func (f *flush) pushQueue(ctx context.Context) {
	for i, err := range f.p.o.Queue.EnqueueKeyed(ctx, f.deliveries, f.keyed.all) {
		if err != nil {
			f.fail(f.owners[i], err)
		}
	}
	f.noteKept()
}

// fail notes that a delivery of out is not confirmed.
func (f *flush) fail(out *outcome, err error) {
	f.traced.failure = core.CodeUnavailable
	if out.failed == nil {
		out.failed = err
	}
	if errors.Is(err, core.ErrNotStored) {
		out.notStored++
	}
}

// answerAll answers every waiter of the flush with err.
func (f *flush) answerAll(err *core.Error) {
	for _, w := range f.waiters {
		if w != nil {
			w.answer, w.err = nil, err
			w.finish()
		}
	}
}
