package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/retry"
	"github.com/sealpost/sealpost/core/sign"
)

const (
	// DefaultPerEndpoint is how many attempts one endpoint sees at the same time
	// from one process.
	DefaultPerEndpoint = 64

	// DefaultHandlerLimit is how long Handle takes at most.
	DefaultHandlerLimit = 5 * time.Minute

	// recordsPatience is how long a failing read of endpoint records is repeated
	// before the task is left to come back.
	recordsPatience = 10 * time.Second
)

// store is what a sender needs of Redis.
type store interface {
	// Records returns the records of refs, nil where there is none.
	Records(ctx context.Context, refs []core.EndpointRef) ([]*core.Endpoint, error)
	// Record writes rows of the attempt log and then marks deliveries as settled.
	Record(ctx context.Context, r core.Record) error
	// OneNode reports whether all that Record writes lies on one node of Redis. If not,
	// what is written together waits for each node that any of it needs.
	OneNode() bool
	// AddDeadLetters keeps deliveries that were given up; each once, however often
	// it is added.
	AddDeadLetters(ctx context.Context, letters []core.DeadLetter) error
	// UpdateEndpoint changes an endpoint's record atomically. It returns the error
	// of change as it is, and CodeNotFound if there is no such endpoint.
	UpdateEndpoint(ctx context.Context, ref core.EndpointRef, change func(*core.Endpoint) error) (*core.Endpoint, error)

	backlogs
}

// backlogs is what a sender needs of the deliveries that wait in Redis because
// their endpoints cannot take them now.
type backlogs interface {
	// Park adds to backlogs and notes conditions; the result is parallel to ps.
	Park(ctx context.Context, ps []core.Parking) ([]core.Parked, error)
	// ClaimBacklogs claims at most most backlogs that are due, and says after what
	// time the next one will be; 0: unknown.
	ClaimBacklogs(ctx context.Context, most int) (claims []core.Claim, next time.Duration, err error)
	// AwaitBacklogs returns when a backlog may be due, or after hold.
	AwaitBacklogs(ctx context.Context, hold time.Duration) error
	// HoldClaim keeps a claim for another core.ClaimLease and notes its condition.
	// held is false if it is somebody else's by now.
	HoldClaim(ctx context.Context, c core.Claim) (held bool, err error)
	// ReleaseClaim ends a claim; see core.Release. released is false if the claim
	// stays because more waits.
	ReleaseClaim(ctx context.Context, r core.Release) (released bool, err error)
	// Backlog returns at most most deliveries of a backlog that come after an entry,
	// "" being before the oldest. Beside an error those before it are returned.
	Backlog(ctx context.Context, ref core.EndpointRef, after string, most int) ([]core.Waiting, error)
	// NoteRecovered forgets since when endpoints had done nothing but fail.
	NoteRecovered(ctx context.Context, refs []core.EndpointRef) error
	// RaiseWarning notes a warning in percent, and reports whether it is the first of
	// that height.
	RaiseWarning(ctx context.Context, ref core.EndpointRef, percent int) (raised bool, err error)
}

// queue takes deliveries that go on.
type queue interface {
	// Retry stores each delivery under its id and count of attempts, to be run
	// when it is due. A nil result means that all are stored, else the errors are
	// parallel to ds.
	Retry(ctx context.Context, ds []core.Delivery) []error
	// Defer stores deliveries in fresh bundles that run when due; zero: at once.
	Defer(ctx context.Context, ds []core.Delivery, due time.Time) error
}

// poster makes HTTP requests; *egress.Client is one.
type poster interface {
	Post(ctx context.Context, began time.Time, timeout time.Duration, t *egress.Target, compose egress.Compose) egress.Result
	DropIdle(t *egress.Target)
}

var _ poster = (*egress.Client)(nil)

// watcher is told what begins now, by many goroutines. It is no wrapper around what
// does the work: on the stack of every delivery there is no room for one more
// (core/stack).
type watcher interface {
	// Work is a bundle, or a part of a backlog. It may take no attempt.
	Work(now time.Time)
	Attempt(now time.Time)
}

// nobody watches.
type nobody struct{}

func (nobody) Work(time.Time)    {}
func (nobody) Attempt(time.Time) {}

// Options configures a Sender. Fields without a stated default are required.
type Options struct {
	Store   store
	Queue   queue
	Client  poster
	Keyring *sign.Keyring

	Schedule        retry.Schedule
	DeliveryTimeout time.Duration // of one attempt, over everything
	Concurrency     int           // attempts in flight in this process
	PerEndpoint     int           // of these, to one endpoint; 0: DefaultPerEndpoint
	HandlerLimit    time.Duration // of one call of Handle; 0: DefaultHandlerLimit

	BacklogRetention time.Duration // how long a delivery waits in a backlog, at least as long as the whole Schedule lasts
	KeepDelivered    bool          // has the Store keep what was delivered, for replays
	DisableAfter     time.Duration // of nothing but failures an endpoint is disabled; 0: never
	Announcer        announcer     // of disabled endpoints and of warnings

	Watcher   watcher     // nil: nobody is told what begins
	Tracer    core.Tracer // nil: attempts are not traced
	HideTrace bool        // receivers get neither traceparent nor tracestate

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // nil: time.Now
	Rand       func() float64   // in [0,1), for jitter; nil: a random source
}

// withDefaults returns o with its defaults filled in, or an error that names
// the first bad field.
func (o Options) withDefaults() (Options, error) {
	if o.PerEndpoint == 0 {
		o.PerEndpoint = DefaultPerEndpoint
	}
	if o.HandlerLimit == 0 {
		o.HandlerLimit = DefaultHandlerLimit
	}
	if o.Watcher == nil {
		o.Watcher = nobody{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if err := o.Schedule.Validate(); err != nil {
		return o, fmt.Errorf("sender: Schedule: %w", err)
	}
	for _, check := range []struct {
		bad  bool
		what string
	}{
		{o.Store == nil, "Store is missing"},
		{o.Queue == nil, "Queue is missing"},
		{o.Client == nil, "Client is missing"},
		{o.Keyring == nil, "Keyring is missing"},
		{o.Announcer == nil, "Announcer is missing"},
		{o.BacklogRetention < 0 || o.DisableAfter < 0, "a duration is negative"},
		{o.Logger == nil, "Logger is missing"},
		{o.Registerer == nil, "Registerer is missing"},
		{o.DeliveryTimeout <= 0, "DeliveryTimeout must be above 0"},
		{o.Concurrency < 1, "Concurrency must be at least 1"},
		{o.PerEndpoint < 1, "PerEndpoint must be at least 1"},
		{o.startLimit() <= 0, fmt.Sprintf("HandlerLimit must exceed DeliveryTimeout by more than %v", recordsPatience+settlePatience+lastPatience)},
	} {
		if check.bad {
			return o, errors.New("sender: " + check.what)
		}
	}
	return o, nil
}

// startLimit is how long after the begin of a bundle an attempt may start, so
// that it can end and be settled within the HandlerLimit.
func (o Options) startLimit() time.Duration {
	return o.HandlerLimit - o.DeliveryTimeout - recordsPatience - settlePatience - lastPatience
}

// Sender works bundles off. It is safe for concurrent use.
type Sender struct {
	store  store
	queue  queue
	client poster

	schedule         retry.Schedule
	deliveryTimeout  time.Duration
	lifetime         time.Duration // of a delivery, from accept to giving up
	backlogRetention time.Duration
	startLimit       time.Duration
	keepDelivered    bool
	disableAfter     time.Duration
	perEndpoint      int
	announcer        announcer

	slots      *slots
	admission  *admission
	bulk       *admission // of bulk bundles, so that they stand before nobody else
	limits     *limiter
	overtime   *overtime
	health     *health
	records    *records
	joint      *joint
	write      func(context.Context, core.Record) error // for bundles of many deliveries
	crew       crew
	attempts   sync.Pool // of *attempt
	mismatches *reminder
	troubles   *troubles

	drains      chan struct{} // a semaphore: backlogs that are being worked off
	drainPlaces chan struct{} // a semaphore: attempts out of backlogs in flight

	draining chan struct{} // closed by Drain
	drain    sync.Once

	watcher   watcher
	tracer    core.Tracer
	hideTrace bool

	logger  *slog.Logger
	metrics *metrics
	now     func() time.Time
	rand    func() float64
}

// New returns a Sender. It starts no goroutine.
func New(o Options) (*Sender, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Sender{
		store: o.Store, queue: o.Queue, client: o.Client,
		schedule: o.Schedule, deliveryTimeout: o.DeliveryTimeout, startLimit: o.startLimit(),
		lifetime:         o.Schedule.Total() + time.Duration(o.Schedule.MaxAttempts)*(o.DeliveryTimeout+attemptSlack),
		slots:            newSlots(o.Concurrency),
		admission:        newAdmission(admittedPerSlot * o.Concurrency),
		bulk:             newAdmission(admittedPerSlot * o.Concurrency),
		limits:           newLimiter(o.PerEndpoint, o.Now),
		health:           newHealth(),
		records:          newRecords(o.Store, newSigners(o.Keyring), o.Client.DropIdle, o.Now),
		mismatches:       newReminder(),
		troubles:         newTroubles(o.Now()),
		backlogRetention: o.BacklogRetention, keepDelivered: o.KeepDelivered, disableAfter: o.DisableAfter, perEndpoint: o.PerEndpoint, announcer: o.Announcer,
		drains:      make(chan struct{}, maxDrains),
		drainPlaces: make(chan struct{}, drainsPerSlot*o.Concurrency),
		draining:    make(chan struct{}),
		watcher:     o.Watcher, tracer: o.Tracer, hideTrace: o.HideTrace,
		logger: o.Logger, now: o.Now, rand: o.Rand,
	}
	s.overtime = newOvertime(overtimePerSlot*o.Concurrency, s.overdue, o.Now)
	s.joint = newJoint(o.Store.Record, s.draining, o.Now)
	if s.write = o.Store.Record; o.Store.OneNode() {
		s.write = newConvoy(o.Store.Record).record
	}
	s.attempts.New = func() any { return newAttempt(s) }
	s.metrics, err = newMetrics(o.Registerer, o.Concurrency, func() float64 { return float64(s.slots.inUse()) },
		func() float64 { return float64(len(s.overtime.places) + len(s.drainPlaces)) })
	if err != nil {
		return nil, fmt.Errorf("sender: register metrics: %w", err)
	}
	return s, nil
}

// Handle works the bundle off and returns when nothing of it is in flight any
// more. nil means that every delivery is settled: delivered, discarded, or kept
// in Redis as a retry, a dead letter or part of a fresh bundle. After an error
// the bundle has to be run again; what is settled is marked and will be skipped.
//
// ctx is the lease of the bundle's task: when it ends nothing new is started,
// while requests under way are finished and their results stored. Handle ends
// within the HandlerLimit, and puts back what it could not start by then.
func (s *Sender) Handle(ctx context.Context, b *core.Bundle) error {
	s.watcher.Work(s.now())
	r := s.newRun(ctx, b)
	if r.pending == 0 {
		// Nothing is pending, yet the task is here: its end was not noted. The mark
		// says once more that all is settled, and lets the blob go.
		err := r.books.record(r.detached, nil, r.done)
		b.Ended = err == nil
		return err
	}
	r.admitted = r.admission.enter(ctx, r.pending, s.startLimit, s.draining)
	defer func() { r.leaveAdmission(r.admitted) }()
	if !s.isDraining() && !r.alone {
		// One read for all. A bundle of one delivery reads its record when its turn
		// comes, and so do those that have to wait for a slot for long.
		err := s.patiently(ctx, func() error { return s.records.prefetch(ctx, r.refs()) })
		if err != nil {
			return fmt.Errorf("read endpoint records: %w", err)
		}
	}
	if !r.alone {
		r.shift = s.crew.enter()
		defer s.crew.leave()
		defer r.abandon()
	}
	return r.loop()
}

// Drain makes every Handle, now and later, start nothing new and put back what
// it has not started, without spending an attempt. It does not wait.
func (s *Sender) Drain() { s.drain.Do(func() { close(s.draining) }) }

func (s *Sender) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// patiently calls read until it succeeds, for recordsPatience and not beyond
// the end of ctx or the beginning of a drain. It returns the last error.
func (s *Sender) patiently(ctx context.Context, read func() error) error {
	err := read()
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, recordsPatience)
	defer cancel()
	for wait := newBackoff(s.rand); err != nil; err = read() {
		if s.isDraining() || !wait.sleep(ctx) {
			return err
		}
	}
	return nil
}
