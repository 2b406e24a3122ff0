package queue

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

// DefaultTaskTimeout is how long asynq lets a handler run when
// ProducerOptions.TaskTimeout is 0. Past it the task is put back while the
// handler may still be at work, so the handler has to end by itself well before.
const DefaultTaskTimeout = 10 * time.Minute

const (
	// blobTTL is how long a blob lives after its bundle is due. Only an orphan
	// (the producer died between blob and task) ever reaches that age.
	blobTTL = 30 * 24 * time.Hour

	// defaultPatience bounds calls whose context has no deadline.
	defaultPatience = 10 * time.Second

	parallelBundles = 8  // round trips of one Enqueue that run at a time
	parallelRetries = 16 // and of one Retry
)

// ProducerOptions configure a Producer.
type ProducerOptions struct {
	Options
	TaskTimeout time.Duration // whole seconds, at least 1 s; 0: DefaultTaskTimeout
	Keeping     Keeping       // keeps answers and notes with tasks; nil: that is left to the caller

	// VersionKey returns the key with the version of an organization's endpoints; nil:
	// EnqueueUnmoved stores nothing.
	VersionKey func(organization string) string
}

// Producer puts deliveries into the queues. It is safe for concurrent use, holds
// nothing between calls and needs no closing.
type Producer struct {
	o       ProducerOptions
	client  *asynq.Client
	metrics *producerMetrics
	shard   atomic.Uint32 // counts bundles, to take the shards in turn
	scratch sync.Pool     // of *frame.Encoder
}

// NewProducer returns a Producer. It makes no connection.
func NewProducer(o ProducerOptions) (*Producer, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if o.TaskTimeout == 0 {
		o.TaskTimeout = DefaultTaskTimeout
	}
	if o.TaskTimeout < time.Second || o.TaskTimeout%time.Second != 0 {
		return nil, fmt.Errorf("queue: ProducerOptions.TaskTimeout is %v, must be whole seconds", o.TaskTimeout)
	}
	metrics, err := newProducerMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	companions := &companionClient{UniversalClient: o.Client, unmoved: newUnmoved()}
	if o.Keeping != nil {
		companions.noter = newNoter(o.Keeping)
	}
	p := &Producer{
		o:       o,
		client:  asynq.NewClientFromRedisClient(companions),
		metrics: metrics,
	}
	p.scratch.New = func() any { return new(frame.Encoder) }
	return p, nil
}

// Enqueue stores deliveries that are to be sent at once, those that are Bulk in the
// bulk queue. Those of one event have to follow each other in ds, so that its bytes
// are stored once. It returns nil
// when all are stored; else the errors are parallel to ds, nil for those that
// are. An error means "not confirmed": the delivery may have been stored all the
// same. ds is not kept.
//
// Lost replies are sent again under the same id until ctx ends. Without a
// deadline in ctx, Enqueue gives up after 10 s.
func (p *Producer) Enqueue(ctx context.Context, ds []core.Delivery) []error {
	return p.EnqueueKeyed(ctx, ds, nil)
}

// EnqueueKeyed is Enqueue that keeps the answers of reservations with the deliveries
// of which they speak, and notes in keyed for which it has: neither is stored without
// the other. Where these deliveries do not fit into one bundle, or the answer speaks of
// others, too, a note of its deliveries is kept with each bundle instead. Neither can be
// done in a Redis Cluster. A bundle with a reservation that another request has taken
// over meanwhile is not stored. keyed is in the order of its deliveries, without
// overlaps. After an error an answer may have been kept, too, but then what it speaks of
// is stored.
func (p *Producer) EnqueueKeyed(ctx context.Context, ds []core.Delivery, keyed []core.Keyed) []error {
	parts := split(ds)
	failed := make([]error, len(parts))
	ctx, cancel := withPatience(ctx)
	defer cancel()
	each(len(parts), parallelBundles, func(i int) {
		failed[i] = p.sendBundle(ctx, ds[parts[i].from:parts[i].to], time.Time{}, extras{keep: keepsakes(keyed, ds, parts[i])})
	})
	var errs []error
	for i, err := range failed {
		if err == nil {
			continue
		}
		if errs == nil {
			errs = make([]error, len(ds))
		}
		for k := parts[i].from; k < parts[i].to; k++ {
			errs[k] = err
		}
	}
	return errs
}

// Retry stores the next attempt of each delivery, to be made when it is Due
// (zero or past: at once). Attempts is already counted up; it makes the task's
// id, so that repeating a Retry makes no second one. The result is as Enqueue's.
func (p *Producer) Retry(ctx context.Context, ds []core.Delivery) []error {
	errs := make([]error, len(ds))
	ctx, cancel := withPatience(ctx)
	defer cancel()
	each(len(ds), parallelRetries, func(i int) {
		errs[i] = p.send(ctx, retryQueue, retryID(&ds[i]), ds[i:i+1], p.future(ds[i].Due), false, extras{})
	})
	for _, err := range errs {
		if err != nil {
			return errs
		}
	}
	return nil
}

// Defer stores deliveries anew, without spending an attempt: in bundles with ids
// of their own, sent not before due and not before their own Due. When that has
// come already they go to a deliver queue, or the bulk queue, at once. With an error some of them
// may have been stored.
func (p *Producer) Defer(ctx context.Context, ds []core.Delivery, due time.Time) error {
	ctx, cancel := withPatience(ctx)
	defer cancel()
	later := make([]core.Delivery, len(ds)) // ds belongs to the caller
	for i, d := range ds {
		if d.Due.Before(due) {
			d.Due = due
		}
		later[i] = d
	}
	parts := split(later)
	failed := make([]error, len(parts))
	each(len(parts), parallelBundles, func(i int) {
		bundle := later[parts[i].from:parts[i].to]
		failed[i] = p.sendBundle(ctx, bundle, p.future(latestDue(bundle, nil)), extras{})
	})
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// future returns the time at which asynq may run what is due at due: the next
// full second, since asynq cuts off fractions. It is zero when due has come.
func (p *Producer) future(due time.Time) time.Time {
	if !due.After(p.o.Now()) {
		return time.Time{}
	}
	at := due.Truncate(time.Second)
	if at.Before(due) {
		at = at.Add(time.Second)
	}
	return at
}

// latestDue returns the latest Due of the deliveries that are not settled.
func latestDue(ds []core.Delivery, settled []bool) time.Time {
	var latest time.Time
	for i := range ds {
		if (settled == nil || !settled[i]) && ds[i].Due.After(latest) {
			latest = ds[i].Due
		}
	}
	return latest
}

// sendBundle sends ds, which are all Bulk or none, as a bundle with an id of its
// own: to the bulk queue or a deliver queue, or to the retry queue when it has to
// wait until at.
func (p *Producer) sendBundle(ctx context.Context, ds []core.Delivery, at time.Time, x extras) error {
	id, err := uuid.NewV7()
	if err != nil {
		return core.Unavailable("no id for a bundle", err)
	}
	queue := retryQueue
	switch {
	case !at.IsZero():
	case ds[0].Bulk:
		queue = bulkQueue
	default:
		queue = deliverQueue(int(p.shard.Add(1) % uint32(p.o.Shards)))
	}
	return p.send(ctx, queue, id.String(), ds, at, true, x)
}

// taskOptions returns the options of a task. asynq's retry counter never ends
// one: it cannot reach its bound.
func (p *Producer) taskOptions(queue, id string, at time.Time) []asynq.Option {
	options := []asynq.Option{
		asynq.Queue(queue), asynq.TaskID(id), asynq.MaxRetry(math.MaxInt32), asynq.Timeout(p.o.TaskTimeout),
	}
	if !at.IsZero() {
		options = append(options, asynq.ProcessAt(at))
	}
	return options
}
