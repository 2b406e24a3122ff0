package publish

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
)

// Defaults of Options.
const (
	DefaultMaxPending      = 20_000                  // events
	DefaultMaxPendingBytes = 64 << 20                // bytes of event bodies
	DefaultMaxDeliveries   = 50_000                  // of one request
	DefaultFlushes         = 1                       // in flight at a time, of each line
	DefaultBudget          = 1500 * time.Millisecond // from arrival to answer
)

const (
	// maxFlushEvents is where a flush stops taking more requests: the rest waits
	// for the next one, so that no flush grows without bound.
	maxFlushEvents = 4096

	// minBudget is what a request must have left of its budget when its flush
	// begins. With less it would be stored and still answered CodeUnavailable,
	// and its repetition, unless it has a key, would be a duplicate.
	minBudget = 50 * time.Millisecond
)

// Store keeps endpoints and idempotency keys. Its errors are unknown outcomes:
// what failed may still have happened. Its calls end when their ctx does: callers may
// be waiting in them.
type Store interface {
	// Begin reads the version tokens of organizations ("" = none), claims
	// idempotency keys and then takes from quotas, in order and in one round trip.
	// The results are parallel to the arguments; those of draws are noted in them.
	Begin(ctx context.Context, organizations []string, rs []core.Reservation, draws core.Draws) (versions []string, states []core.ReservationState, err error)
	// Endpoints returns an organization's endpoints and their version token as
	// of the same moment.
	Endpoints(ctx context.Context, organization string) (endpoints []core.Endpoint, version string, err error)
	// Finish stores the answers of claims that are still held. It may be repeated.
	Finish(ctx context.Context, rs []core.Reservation) error
	// Release forgets claims that are still held. It may be repeated.
	Release(ctx context.Context, rs []core.Reservation) error
}

// Queue stores deliveries durably. Its calls end when their ctx does, as those of Store.
type Queue interface {
	// EnqueueKeyed returns nil when all deliveries are stored, else an error for each
	// of them, in order, nil for those that are. An error that is core.ErrNotStored
	// is certain, any other may be a delivery that is stored. It does not keep ds.
	//
	// Where it can it keeps the answers of reservations together with the deliveries
	// of which they speak, and says so in keyed: neither is stored without the other,
	// and nothing for a reservation that another request holds by now. Where it cannot
	// store all of them at once, or there is no answer yet, it keeps notes of what it
	// stores, see core.Keyed. keyed is in the order of its deliveries.
	EnqueueKeyed(ctx context.Context, ds []core.Delivery, keyed []core.Keyed) []error
}

// Backlog stores the deliveries of endpoints that are not sent to at once.
type Backlog interface {
	// Park adds deliveries to the backlogs of their endpoints, in their order, and
	// where it can keeps notes with the reservations under which they are stored. An
	// error is that of all of them, and like those of Queue certain only if it is
	// core.ErrNotStored. What a backlog has in excess is the senders' business. It
	// does not keep ps.
	Park(ctx context.Context, ps []core.Parking) ([]core.Parked, error)
}

// Options configure a Publisher.
type Options struct {
	Store           Store
	Queue           Queue
	Unmoved         UnmovedQueue // nil: the version of the endpoints is always read before
	Backlog         Backlog
	Accepting       func() error          // says why no event is accepted now; nil: always accept
	Quota           core.Quota            // of each organization; zero: none
	MaxPending      int                   // events that wait or are being flushed; 0: DefaultMaxPending
	MaxPendingBytes int64                 // their bodies; 0: DefaultMaxPendingBytes
	MaxDeliveries   int                   // of one request, and of what is stored at a time; 0: DefaultMaxDeliveries
	Flushes         int                   // flushes in flight at a time, of each line; 0: DefaultFlushes
	Budget          time.Duration         // from a request's arrival to its answer; 0: DefaultBudget
	Tracer          core.Tracer           // nil: flushes are not traced
	Registerer      prometheus.Registerer // nil: metrics are kept but not registered
	Logger          *slog.Logger          // nil: slog.Default()
	Now             func() time.Time      // nil: time.Now
}

func (o *Options) complete() error {
	switch {
	case o.Store == nil:
		return errors.New("publish: Options.Store is missing")
	case o.Queue == nil:
		return errors.New("publish: Options.Queue is missing")
	case o.Backlog == nil:
		return errors.New("publish: Options.Backlog is missing")
	case o.MaxPending < 0 || o.MaxPendingBytes < 0 || o.MaxDeliveries < 0 || o.Flushes < 0 || o.Budget < 0:
		return errors.New("publish: a bound in Options is negative")
	case o.Quota.Rate < 0 || o.Quota.Limits() && o.Quota.Burst < 1:
		return errors.New("publish: Options.Quota needs a rate and a burst above 0")
	}
	if o.Accepting == nil {
		o.Accepting = func() error { return nil }
	}
	if o.MaxPending == 0 {
		o.MaxPending = DefaultMaxPending
	}
	if o.MaxPendingBytes == 0 {
		o.MaxPendingBytes = DefaultMaxPendingBytes
	}
	if o.MaxDeliveries == 0 {
		o.MaxDeliveries = DefaultMaxDeliveries
	}
	if o.Flushes == 0 {
		o.Flushes = DefaultFlushes
	}
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Publisher accepts requests and commits them in groups. Make one with New, run
// it with Run, and hand it requests with Publish.
type Publisher struct {
	o         Options
	metrics   *metrics
	snapshots *snapshots
	collector *collector
	waiters   sync.Pool    // of *waiter
	flushes   sync.Pool    // of *flush
	complaint atomic.Int64 // Unix time of the last logged complaint, see complain
}

// New returns a Publisher. Before Run only what finds nothing before it is stored.
func New(o Options) (*Publisher, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	p := &Publisher{
		o:         o,
		snapshots: newSnapshots(maxSnapshotEntries),
		collector: newCollector(o.MaxPending, o.MaxPendingBytes, o.Flushes),
	}
	p.waiters.New = func() any { return newWaiter() }
	p.flushes.New = func() any { return newFlush(p) }
	var err error
	if p.metrics, err = newMetrics(o.Registerer, p.collector, o.Now); err != nil {
		return nil, err
	}
	return p, nil
}

// Run flushes until ctx ends. Requests that wait then are still flushed; later
// ones are refused with CodeUnavailable. Stop what calls Publish first.
func (p *Publisher) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for l := range lines {
		for range p.o.Flushes {
			workers.Go(func() { p.work(l) })
		}
	}
	<-ctx.Done()
	p.collector.close()
	workers.Wait()
	for l := range lines {
		p.collector.drained(l) // of what callers flush themselves
	}
	return nil
}

// work runs one flush of a line after the other until the collector is closed and
// the line empty.
func (p *Publisher) work(l line) {
	f := newFlush(p)
	nap := newNap()
	defer nap.close()
	for {
		waiters := p.collector.take(f.waiters[:0], l, maxFlushEvents, nap.sleep)
		if len(waiters) == 0 {
			return
		}
		f.run(l, waiters, p.o.Now().Add(p.o.Budget))
	}
}

// lead flushes the caller's own request, which found nothing before it. At an idle
// moment that spares waking a worker and being woken by it.
func (p *Publisher) lead(l line, w *waiter) {
	f := p.flushes.Get().(*flush)
	defer p.flushes.Put(f)
	f.run(l, append(f.waiters[:0], w), w.deadline)
}

// Publish stores the events of r and returns the JSON body of the answer: for a
// single event an object, for a batch an object with one member `data`. It
// returns within the budget that began at r.Arrived, and closeTime more where
// idempotency keys are to be closed at the end of it. Publish owns r from here
// on: a flush may hold it longer than the call lasts.
//
// The error is a *core.Error: that of the event if r is a single bad one,
// CodeIdempotencyMismatch, CodeInProgress, CodeTooLarge for more deliveries than
// Options.MaxDeliveries or more events than the quota ever allows, CodeRateLimited
// for what it does not allow now, or CodeUnavailable for what could not be
// confirmed.
func (p *Publisher) Publish(r *Request) ([]byte, error) {
	body, err := p.publish(r)
	if err != nil {
		p.metrics.reject(err.Code, len(r.Items))
		return nil, err
	}
	return body, nil
}

// Reject counts events that were refused before they became a request.
func (p *Publisher) Reject(code core.Code, events int) { p.metrics.reject(code, events) }

func (p *Publisher) publish(r *Request) ([]byte, *core.Error) {
	if !r.Batch {
		if len(r.Items) != 1 {
			return nil, &core.Error{Code: core.CodeInternal, Detail: "a single request must have one event"}
		}
		if err := r.Items[0].Err; err != nil {
			return nil, err
		}
	}
	if err := checkBurst(r, p.o.Quota); err != nil {
		return nil, err
	}
	if err := p.o.Accepting(); err != nil {
		return nil, asUnavailable("no events are accepted at the moment", err)
	}
	deadline := r.Arrived.Add(p.o.Budget)
	now := p.o.Now()
	left := deadline.Sub(now)
	if left < minBudget {
		return nil, core.Unavailable(detailLate, nil)
	}

	w := p.waiters.Get().(*waiter)
	w.reset(r, deadline)
	l, leads, err := p.collector.add(w, now)
	switch {
	case err != nil:
		w.forget()
		p.waiters.Put(w)
		return nil, err
	case leads:
		p.lead(l, w)
		<-w.done
	case !w.wait(left):
		return nil, core.Unavailable(detailLate, nil) // a flush may still hold w
	}
	body, err := w.answer, w.err
	r.Allowance = w.allowance
	w.forget()
	p.waiters.Put(w)
	return body, err
}

// complain logs what no caller gets to see, at most once a second: when Redis
// is gone every flush would say the same.
func (p *Publisher) complain(msg string, err error) {
	now := p.o.Now().Unix()
	if last := p.complaint.Load(); last != now && p.complaint.CompareAndSwap(last, now) {
		p.o.Logger.Warn(msg, "error", err)
	}
}
