package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealpost/sealpost/core"
)

// Defaults of ConsumerOptions.
const (
	DefaultBundles         = 64
	DefaultShutdownTimeout = 20 * time.Second
)

const (
	// pollInterval makes asynq wait 0.5 to 1.5 ms after an empty poll; the
	// doorbell does the real waiting.
	pollInterval = time.Millisecond

	// Intervals at which asynq moves tasks whose time has come. Together with the
	// full seconds of its clock a retry starts two seconds late at most. In a
	// deliver queue only those wait that a handler put back.
	retryForwardInterval   = time.Second
	deliverForwardInterval = 5 * time.Second

	// janitorInterval is that of a cleaner of completed tasks, of which we have
	// none.
	janitorInterval = time.Hour
)

// Handler sends the deliveries of a bundle that are not settled. When it returns
// nil, all of them are settled and the bundle is done. An error puts the bundle
// back into its queue for some seconds. ctx ends when the lease of the task is
// lost, its timeout is over, or a shutdown takes too long: from then on another
// run of the same bundle can begin anywhere, and the handler starts nothing more.
type Handler func(ctx context.Context, b *core.Bundle) error

// ConsumerOptions configure a Consumer.
type ConsumerOptions struct {
	Options
	Handler         Handler
	Bundles         int           // that run at a time, per queue; 0: DefaultBundles
	ShutdownTimeout time.Duration // for handlers to end, at least 1 s; 0: DefaultShutdownTimeout
	OnStop          func()        // called once when no more bundles are fetched; nil: none
}

func (o *ConsumerOptions) complete() error {
	if err := o.Options.complete(); err != nil {
		return err
	}
	if o.Handler == nil {
		return errors.New("queue: ConsumerOptions.Handler is missing")
	}
	if o.Bundles == 0 {
		o.Bundles = DefaultBundles
	}
	if o.Bundles < 1 {
		return fmt.Errorf("queue: ConsumerOptions.Bundles is %d, must be positive", o.Bundles)
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = DefaultShutdownTimeout
	}
	if o.ShutdownTimeout < time.Second {
		return fmt.Errorf("queue: ConsumerOptions.ShutdownTimeout is %v, must be at least 1s", o.ShutdownTimeout)
	}
	if o.OnStop == nil {
		o.OnStop = func() {}
	}
	return nil
}

// Consumer takes bundles from all queues and hands them to its Handler.
type Consumer struct {
	o        ConsumerOptions
	metrics  *consumerMetrics
	asynqLog *asynqLogger
	handlers gate
	ended    ended
	stopping chan struct{} // closed when no more bundles are to be fetched
}

// NewConsumer returns a Consumer. It makes no connection.
func NewConsumer(o ConsumerOptions) (*Consumer, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	metrics, err := newConsumerMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Consumer{
		o: o, metrics: metrics, stopping: make(chan struct{}),
		asynqLog: &asynqLogger{logger: o.Logger, now: o.Now},
	}, nil
}

// lane is one queue with the asynq server that serves it. A server with two
// queues would hold back the polls of both.
type lane struct {
	queue  string
	server *asynq.Server
}

// Run consumes until ctx ends, and then until the running handlers have ended,
// for at most ShutdownTimeout and the last calls to Redis. It is called once.
//
//	bell ──▶ doorbellClient ──▶ asynq server (one per queue) ──▶ process ──▶ Handler
//	reconciler ──▶ tasks that asynq would not recover
//	takeover ──▶ tasks whose lease is over
//
// The error says what did not end in time; its tasks are recovered by other
// consumers once their leases are over.
func (c *Consumer) Run(ctx context.Context) error {
	// Handlers outlive ctx: they wind up while the servers shut down.
	handling, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(errShutdown)
	lanes := c.lanes(handling)

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { c.reconcile(background) })
	wg.Go(func() { c.takeOver(background) })
	defer wg.Wait()
	defer stop()

	for i, l := range lanes {
		if err := l.server.Start(c.handler(l.queue)); err != nil {
			return errors.Join(fmt.Errorf("start queue %s: %w", l.queue, err), c.shutdown(lanes[:i], abort))
		}
	}
	<-ctx.Done()
	return c.shutdown(lanes, abort)
}

func (c *Consumer) lanes(handling context.Context) []lane {
	var lanes []lane
	for _, queue := range queueNames(c.o.Shards) {
		client := &doorbellClient{
			UniversalClient: &endedClient{&mendedClient{UniversalClient: c.o.Client}, &c.ended},
			bell:            bellKey(queue),
			delays:          queue == retryQueue,
			calm:            queue == bulkQueue || queue == retryQueue,
			stopping:        c.stopping,
		}
		lanes = append(lanes, lane{queue: queue, server: asynq.NewServerFromRedisClient(client, c.serverConfig(queue, handling))})
	}
	return lanes
}

// serverConfig leaves no decision to asynq. It counts the runs that failed or
// were cut off, which tells a first run from a second one; but it may count to
// two thousand million before it archives a task, at a second each.
func (c *Consumer) serverConfig(queue string, handling context.Context) asynq.Config {
	forward := deliverForwardInterval
	if queue == retryQueue {
		forward = retryForwardInterval
	}
	return asynq.Config{
		Concurrency:              c.o.Bundles,
		BaseContext:              func() context.Context { return handling },
		TaskCheckInterval:        pollInterval,
		RetryDelayFunc:           c.putBackDelay,
		IsFailure:                func(error) bool { return true },
		Queues:                   map[string]int{queue: 1},
		ErrorHandler:             asynq.ErrorHandlerFunc(c.putBack),
		Logger:                   c.asynqLog,
		LogLevel:                 asynqLevel(c.o.Logger),
		ShutdownTimeout:          c.o.ShutdownTimeout,
		DelayedTaskCheckInterval: forward,
		JanitorInterval:          janitorInterval,
	}
}
