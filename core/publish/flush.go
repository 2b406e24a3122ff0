package publish

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/sealpost/sealpost/core"
)

var errFlushTimeout = errors.New("flush took longer than its budget")

// outcome is what became of one event of a request.
type outcome struct {
	event      *core.Event // nil: nothing is to be delivered
	deliveries int
	claim      int         // index of the event's own reservation; none: -1
	stored     []byte      // the first answer, when this is a repetition
	err        *core.Error // the event's own error
	failed     error       // the first delivery that is not confirmed
}

// organization is one organization's part in a flush.
type organization struct {
	name     string
	snapshot *snapshot // nil when nobody needs it, or with err
	err      error
}

// flush commits a group of requests. One worker uses one flush over and over,
// so that its slices are allocated once.
type flush struct {
	p             *Publisher
	waiters       []*waiter
	organizations []organization
	names         []string       // of organizations, in the same order
	index         map[string]int // name → index
	claims        []core.Reservation
	states        []core.ReservationState // parallel to claims
	deliveries    []core.Delivery
	owners        []*outcome // parallel to deliveries
	finished      []core.Reservation
	released      []core.Reservation
}

func newFlush(p *Publisher) *flush {
	return &flush{p: p, index: make(map[string]int)}
}

// run commits the requests of waiters and answers them.
func (f *flush) run(waiters []*waiter) {
	f.waiters = waiters
	var events int
	var bytes int64
	for _, w := range waiters {
		events, bytes = events+w.events, bytes+w.bytes
	}
	defer f.p.collector.release(events, bytes)
	defer f.reset()
	defer f.recover()

	f.gather()
	if len(f.waiters) == 0 {
		return
	}
	start := f.p.o.Now()
	defer func() { f.p.metrics.flushed(events, f.p.o.Now().Sub(start)) }()
	ctx, cancel := context.WithTimeoutCause(context.Background(), f.p.o.Budget, errFlushTimeout)
	defer cancel()
	f.prepare()
	if err := f.begin(ctx); err != nil {
		f.answerAll(asUnavailable(detailUnconfirmed, err))
		return
	}
	f.match(ctx)
	f.enqueue(ctx)
	f.settle(ctx)
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
	clear(f.deliveries)
	clear(f.owners)
	clear(f.finished)
	clear(f.released)
	f.waiters, f.organizations, f.names = f.waiters[:0], f.organizations[:0], f.names[:0]
	f.claims, f.states = f.claims[:0], nil
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
		o := &f.organizations[w.organization]
		if o.snapshot == nil && o.err == nil && w.hasEvents() {
			o.snapshot, o.err = f.load(ctx, o.name)
		}
		if o.err != nil && w.hasEvents() {
			w.unconfirmed = o.err
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

func (w *waiter) hasEvents() bool {
	for i := range w.outcomes {
		if w.outcomes[i].event != nil {
			return true
		}
	}
	return false
}

// enqueue stores a delivery for each event and endpoint that match.
func (f *flush) enqueue(ctx context.Context) {
	for _, w := range f.waiters {
		if w.unconfirmed != nil {
			continue // nothing of it has been stored, and nothing will be
		}
		o := &f.organizations[w.organization]
		for i := range w.outcomes {
			if out := &w.outcomes[i]; out.event != nil {
				f.fanOut(ctx, o, out)
			}
		}
	}
	f.push(ctx)
}

func (f *flush) fanOut(ctx context.Context, o *organization, out *outcome) {
	endpoints := o.snapshot.byType[out.event.Type]
	out.deliveries = len(endpoints)
	for _, endpoint := range endpoints {
		f.deliveries = append(f.deliveries, core.Delivery{
			ID: core.NewDeliveryID(out.event.AcceptedAt), Organization: o.name, Endpoint: endpoint, Event: out.event,
		})
		f.owners = append(f.owners, out)
		if len(f.deliveries) == maxFlushDeliveries {
			f.push(ctx)
		}
	}
}

// push enqueues what fanOut has gathered so far.
func (f *flush) push(ctx context.Context) {
	if len(f.deliveries) == 0 {
		return
	}
	errs := f.p.o.Queue.Enqueue(ctx, f.deliveries)
	for i, err := range errs {
		if out := f.owners[i]; err != nil && out.failed == nil {
			out.failed = err
		}
	}
	clear(f.deliveries)
	clear(f.owners)
	f.deliveries, f.owners = f.deliveries[:0], f.owners[:0]
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
