package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// DefaultShards is the number of deliver queues when Options.Shards is 0.
const DefaultShards = 4

// maxShards bounds the queues: each costs a server, and a poll per second.
const maxShards = 100

// Options are what producers, consumers and collectors have in common. All that
// share a Redis must agree on Shards: a queue that nobody consumes only waits.
type Options struct {
	Client     redis.UniversalClient // stays the caller's to close
	Shards     int                   // deliver queues, 1 to 100; 0: DefaultShards
	Logger     *slog.Logger          // nil: slog.Default()
	Registerer prometheus.Registerer // nil: metrics are kept but not registered
	Now        func() time.Time      // nil: time.Now
}

// complete fills in the defaults and names the first bad field.
func (o *Options) complete() error {
	if o.Client == nil {
		return errors.New("queue: Options.Client is missing")
	}
	if o.Shards == 0 {
		o.Shards = DefaultShards
	}
	if o.Shards < 1 || o.Shards > maxShards {
		return fmt.Errorf("queue: Options.Shards is %d, must be 1 to %d", o.Shards, maxShards)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// isCluster reports whether commands of one pipeline may travel on different
// connections.
func (o *Options) isCluster() bool {
	_, ok := o.Client.(*redis.ClusterClient)
	return ok
}
