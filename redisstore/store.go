package redisstore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

// Defaults of Options.
const (
	DefaultDeadLetterRetention = 30 * 24 * time.Hour
	DefaultMaxDeadLetters      = 10_000    // per endpoint
	DefaultMaxDeadLetterBytes  = 64 << 20  // per endpoint
	DefaultMaxKept             = 1_000     // per endpoint
	DefaultMaxKeptBytes        = 16 << 20  // per endpoint
	DefaultMaxBacklog          = 100_000   // per endpoint
	DefaultMaxBacklogBytes     = 256 << 20 // per endpoint
)

// Options configure a Store. Only Client is required.
type Options struct {
	Client     redis.UniversalClient // stays the caller's to close
	Registerer prometheus.Registerer // nil: the metrics are kept but not exported
	Logger     *slog.Logger          // nil: nothing is logged
	Now        func() time.Time      // nil: time.Now

	Durability Durability            // that Check looks for
	Confirmed  redis.UniversalClient // with Confirm, for what must not get lost; nil: Client

	DeadLetterRetention time.Duration // how long dead letters stay; 0: DefaultDeadLetterRetention
	MaxDeadLetters      int           // per endpoint, the oldest go; 0: DefaultMaxDeadLetters
	MaxDeadLetterBytes  int           // per endpoint, the oldest go; 0: DefaultMaxDeadLetterBytes
	PayloadRetention    time.Duration // how long delivered deliveries stay; 0: they are not kept
	MaxKept             int           // of them per endpoint, the oldest go; 0: DefaultMaxKept
	MaxKeptBytes        int           // of them per endpoint, the oldest go; 0: DefaultMaxKeptBytes
	MaxBacklog          int           // deliveries of an endpoint that wait, see core.Parked; 0: DefaultMaxBacklog
	MaxBacklogBytes     int           // and their bytes; 0: DefaultMaxBacklogBytes
}

func (o *Options) complete() error {
	switch {
	case o.Client == nil:
		return errors.New("redisstore: Options.Client is required")
	case o.DeadLetterRetention < 0:
		return fmt.Errorf("redisstore: Options.DeadLetterRetention %v is negative", o.DeadLetterRetention)
	case o.MaxDeadLetters < 0:
		return fmt.Errorf("redisstore: Options.MaxDeadLetters %d is negative", o.MaxDeadLetters)
	case o.MaxDeadLetterBytes < 0:
		return fmt.Errorf("redisstore: Options.MaxDeadLetterBytes %d is negative", o.MaxDeadLetterBytes)
	case o.PayloadRetention < 0:
		return fmt.Errorf("redisstore: Options.PayloadRetention %v is negative", o.PayloadRetention)
	case o.MaxKept < 0:
		return fmt.Errorf("redisstore: Options.MaxKept %d is negative", o.MaxKept)
	case o.MaxKeptBytes < 0:
		return fmt.Errorf("redisstore: Options.MaxKeptBytes %d is negative", o.MaxKeptBytes)
	case o.MaxBacklog < 0:
		return fmt.Errorf("redisstore: Options.MaxBacklog %d is negative", o.MaxBacklog)
	case o.MaxBacklogBytes < 0:
		return fmt.Errorf("redisstore: Options.MaxBacklogBytes %d is negative", o.MaxBacklogBytes)
	}
	if err := o.Durability.Valid(o.Client); err != nil {
		return fmt.Errorf("redisstore: Options.Durability: %w", err)
	}
	if o.Confirmed == nil {
		o.Confirmed = o.Client
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.DeadLetterRetention == 0 {
		o.DeadLetterRetention = DefaultDeadLetterRetention
	}
	if o.MaxDeadLetters == 0 {
		o.MaxDeadLetters = DefaultMaxDeadLetters
	}
	if o.MaxDeadLetterBytes == 0 {
		o.MaxDeadLetterBytes = DefaultMaxDeadLetterBytes
	}
	if o.MaxKept == 0 {
		o.MaxKept = DefaultMaxKept
	}
	if o.MaxKeptBytes == 0 {
		o.MaxKeptBytes = DefaultMaxKeptBytes
	}
	if o.MaxBacklog == 0 {
		o.MaxBacklog = DefaultMaxBacklog
	}
	if o.MaxBacklogBytes == 0 {
		o.MaxBacklogBytes = DefaultMaxBacklogBytes
	}
	return nil
}

// Store is the memory of Sealpost. It is safe for concurrent use, starts no
// goroutines and has nothing to close.
type Store struct {
	client   redis.UniversalClient
	durable  redis.UniversalClient // for what must not get lost
	log      *slog.Logger
	now      func() time.Time
	metrics  *metrics
	dead     deadLimits
	kept     deadLimits // of delivered deliveries; an age of 0: they are not kept
	backlogs backlogLimits
	encoders sync.Pool   // of *frame.Encoder
	full     atomic.Bool // Redis is too full for new events; set by Watch
	asked    atomic.Bool // Accepting was called since Watch looked
	noLimit  sync.Once   // said that maxmemory is not set

	durability Durability

	// ordered: one pipeline reaches Redis over one connection and runs in order.
	// A Cluster client splits it by node and runs the parts at the same time.
	ordered bool
}

// New returns a Store. It does not talk to Redis.
func New(o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("redisstore: register metrics: %w", err)
	}
	_, cluster := o.Client.(*redis.ClusterClient)
	return &Store{
		client: o.Client, durable: o.Confirmed, durability: o.Durability, log: o.Logger, now: o.Now, metrics: m, ordered: !cluster,
		dead:     deadLimits{age: o.DeadLetterRetention, count: o.MaxDeadLetters, bytes: o.MaxDeadLetterBytes},
		kept:     deadLimits{age: o.PayloadRetention, count: o.MaxKept, bytes: o.MaxKeptBytes},
		backlogs: backlogLimits{count: o.MaxBacklog, bytes: o.MaxBacklogBytes},
		encoders: sync.Pool{New: func() any { return new(frame.Encoder) }},
	}, nil
}

// fail turns a failure of Redis into the error that the caller gets, and counts
// it. A nil err and an error that already has a meaning pass as they are.
func (s *Store) fail(o op, err error) error {
	if err == nil {
		return nil
	}
	var known *core.Error
	if errors.As(err, &known) {
		return err
	}
	s.metrics.failed(o)
	return core.Unavailable("storage did not confirm the operation", fmt.Errorf("redis: %s: %w", o, err))
}
