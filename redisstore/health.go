package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

const (
	watchInterval = time.Second
	watchTimeout  = time.Second // of one sample

	// idleTicks is how many watchIntervals pass between two samples while nobody asks
	// whether there is room.
	idleTicks = 5

	// Above fullAt of its limit no new events are accepted, until it is below
	// roomAt again. A Redis that is quite full refuses even to hand out what is
	// queued, so the last quarter belongs to what has been accepted.
	fullAt = 0.75
	roomAt = 0.70
)

// ErrEviction says that Redis may drop what it holds when its memory is full.
var ErrEviction = errors.New("redis evicts keys when its memory is full: set maxmemory-policy to noeviction")

// Check returns nil when Redis answers and keeps what it is given. A Redis that
// has a memory limit and a maxmemory-policy other than noeviction is an
// ErrEviction, one that cannot do what Options.Durability asks an ErrDurability. In a Cluster every master is asked. A server that does not tell
// its policy passes.
func (s *Store) Check(ctx context.Context) error {
	defer s.metrics.took(opCheck, time.Now())
	err := s.eachMaster(ctx, func(ctx context.Context, c redis.Cmdable) error {
		if err := c.Ping(ctx).Err(); err != nil {
			return err
		}
		if err := s.durability.check(ctx, c); err != nil {
			return err
		}
		m, err := readMemory(ctx, c)
		if err != nil {
			return err
		}
		if m.max > 0 && m.policy != "" && m.policy != "noeviction" {
			return ErrEviction
		}
		return nil
	})
	if errors.Is(err, ErrEviction) || errors.Is(err, ErrDurability) {
		return err
	}
	return s.fail(opCheck, err)
}

// Watch looks how full Redis is, for Accepting and the metrics, until ctx ends: once
// a second, but every five seconds while there is room and nobody asks. It returns
// nil.
func (s *Store) Watch(ctx context.Context) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for idle := 0; ; {
		if s.asked.Swap(false) || s.full.Load() {
			idle = 0
		}
		if idle%idleTicks == 0 {
			s.sample(ctx)
		}
		idle++
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Accepting returns a core.CodeUnavailable error while Redis is too full to
// accept new events. Without Watch it always returns nil.
func (s *Store) Accepting() error {
	if !s.asked.Load() {
		s.asked.Store(true)
	}
	if s.full.Load() {
		return core.Unavailable("storage is nearly full", nil)
	}
	return nil
}

// sample reads the memory of the fullest master. When Redis does not answer,
// the last sample stands: whoever wants to write notices by himself.
func (s *Store) sample(ctx context.Context) {
	defer s.metrics.took(opReadMemory, time.Now())
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	var mu sync.Mutex // masters are asked at the same time
	var fullest memory
	err := s.eachMaster(ctx, func(ctx context.Context, c redis.Cmdable) error {
		m, err := readMemory(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && (fullest == memory{} || m.fullness() > fullest.fullness()) {
			fullest = m
		}
		return err
	})
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			s.metrics.failed(opReadMemory)
		}
		return
	}
	s.observe(fullest)
}

func (s *Store) observe(m memory) {
	s.metrics.memoryUsed.Set(float64(m.used))
	s.metrics.memoryMax.Set(float64(m.limit()))
	if m.max <= 0 && m.system > 0 {
		s.noLimit.Do(func() {
			s.log.Warn("redis has no maxmemory: the memory of its machine counts as the limit, which others may need too", "bytes", m.system)
		})
	}
	switch full := s.full.Load(); {
	case !full && m.fullness() >= fullAt:
		s.full.Store(true)
		s.log.Error("redis is nearly full: new events are refused", "used_bytes", m.used, "max_bytes", m.limit())
	case full && m.fullness() < roomAt:
		s.full.Store(false)
		s.log.Info("redis has room again: new events are accepted", "used_bytes", m.used, "max_bytes", m.limit())
	}
}

// eachMaster calls ask for every master, in a Cluster for all at the same time.
func (s *Store) eachMaster(ctx context.Context, ask func(context.Context, redis.Cmdable) error) error {
	return eachMaster(ctx, s.client, ask)
}

func eachMaster(ctx context.Context, client redis.UniversalClient, ask func(context.Context, redis.Cmdable) error) error {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return ask(ctx, c) })
	}
	return ask(ctx, client)
}

// memory is what a server says about its memory; zero when it says nothing.
type memory struct {
	used   int64 // bytes that count against the limit
	max    int64 // maxmemory in bytes; 0: not set
	system int64 // bytes of the machine
	policy string
}

// limit returns what Redis can grow to, in bytes; 0 if that is unknown. Without
// maxmemory it grows until the kernel kills it.
func (m memory) limit() int64 {
	if m.max > 0 {
		return m.max
	}
	return m.system
}

func (m memory) fullness() float64 {
	if m.limit() <= 0 {
		return 0
	}
	return float64(m.used) / float64(m.limit())
}

// readMemory asks a server about its memory. Some servers refuse or do not know
// the question, which is no error.
func readMemory(ctx context.Context, c redis.Cmdable) (memory, error) {
	info, err := answered(c.Info(ctx, "memory").Result())
	if err != nil {
		return memory{}, fmt.Errorf("read memory: %w", err)
	}
	return parseMemory(info), nil
}

// refuses reports whether a server answered that it does not allow or know the
// question.
func refuses(err error) bool {
	var refused redis.Error
	return errors.As(err, &refused) && !redis.IsLoadingError(err)
}

func parseMemory(info string) memory {
	var m memory
	var uncounted int64 // buffers that Redis leaves out when it compares with maxmemory
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		number, _ := strconv.ParseInt(value, 10, 64)
		switch name {
		case "used_memory":
			m.used = number
		case "mem_not_counted_for_evict":
			uncounted = number
		case "maxmemory":
			m.max = number
		case "total_system_memory":
			m.system = number
		case "maxmemory_policy":
			m.policy = value
		}
	}
	if m.max > 0 { // the kernel counts everything
		m.used = max(0, m.used-uncounted)
	}
	return m
}
