package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Durability says when what moves deliveries counts as stored: what has been
// accepted, retries, dead letters, deliveries that go to a backlog. Until then its
// caller is not told that it is, and what it replaces stays.
type Durability string

// The durabilities.
const (
	// DurabilityAsync: Redis has it in memory, and saves and replicates it as it
	// is configured to. The zero Durability is the same.
	DurabilityAsync Durability = "async"
	// DurabilityFsync: it is on the disk of Redis, which has to be configured so
	// that it answers only then.
	DurabilityFsync Durability = "fsync"
	// DurabilityReplica: a replica of Redis has it, too.
	DurabilityReplica Durability = "replica"
)

// ErrDurability says that Redis cannot do what a Durability asks.
var ErrDurability = errors.New("redis does not keep what it confirms")

const (
	// confirmWait is how long a replica may take. It lets a request that fails be
	// answered within the 1.5 s that a producer waits.
	confirmWait = 500 * time.Millisecond

	// fitFor is how long Redis is trusted to be configured as it was.
	fitFor = 5 * time.Second
)

// Valid returns nil when a client can give d.
func (d Durability) Valid(client redis.UniversalClient) error {
	_, cluster := client.(*redis.ClusterClient)
	switch {
	case d == DurabilityReplica && cluster:
		return fmt.Errorf("%w: in a Redis Cluster nobody can wait for the replicas of all that one operation touches", ErrDurability)
	case d == DurabilityReplica, d == DurabilityFsync, d == DurabilityAsync, d == "":
		return nil
	}
	return fmt.Errorf("%w: %q is none of async, fsync, replica", ErrDurability, string(d))
}

// check returns nil when a master can do what d asks.
func (d Durability) check(ctx context.Context, c redis.Cmdable) error {
	switch d {
	case DurabilityFsync:
		return syncsAlways(ctx, c)
	case DurabilityReplica:
		return hasReplica(ctx, c)
	}
	return nil
}

// Confirm makes a client's pipelines fail that are not stored as d asks, although
// Redis may have run them. Single commands, and pipelines in a transaction, are
// not for such a client. A pipeline may be repeated if what is in it may.
func Confirm(client redis.UniversalClient, d Durability) error {
	if err := d.Valid(client); err != nil {
		return err
	}
	switch d {
	case DurabilityFsync:
		client.AddHook(&fsyncHook{client: client})
	case DurabilityReplica:
		client.AddHook(&replicaHook{})
	}
	return nil
}

// unconfirmed is why a pipeline that has run does not count as stored. Whatever
// Redis said about it was said of another command: no errors.As finds a redis.Error in it,
// which would mean that a command has been refused, and so not run.
type unconfirmed struct{ cause error }

func (e unconfirmed) Error() string        { return e.cause.Error() }
func (e unconfirmed) Is(target error) bool { return errors.Is(e.cause, target) }

// refuse gives every command of a pipeline that has no failure of its own the error
// err.
func refuse(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		if own := cmd.Err(); own == nil || errors.Is(own, redis.Nil) {
			cmd.SetErr(err)
		}
	}
	return err
}

// greets reports whether a pipeline is what a new connection begins with, to choose
// its database for instance. It passes the hooks like any other, but stores nothing;
// and to ask for more before it is through would take another connection, which
// begins likewise.
func greets(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		switch cmd.Name() {
		case "hello", "auth", "select", "client", "readonly":
		default:
			return false
		}
	}
	return true
}

// fsyncHook lets nothing pass unless Redis answers only what is on its disk. That
// is asked anew after five seconds and with every new connection: a Redis that was
// started again may be configured differently.
type fsyncHook struct {
	client redis.UniversalClient
	asked  atomic.Int64 // when Redis was last found to be fit, Unix ns; 0: ask
}

// DialHook implements redis.Hook.
func (h *fsyncHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		h.asked.Store(0)
		return next(ctx, network, addr)
	}
}

// ProcessHook implements redis.Hook.
func (*fsyncHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (h *fsyncHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if greets(cmds) {
			return next(ctx, cmds)
		}
		if err := h.fit(ctx); err != nil {
			return refuse(cmds, err)
		}
		err := next(ctx, cmds)
		if h.asked.Load() == 0 { // it may have gone over a new connection
			if err := h.fit(ctx); err != nil {
				return refuse(cmds, unconfirmed{err})
			}
		}
		return err
	}
}

// fit returns nil when Redis is known to be fit, or says now that it is.
func (h *fsyncHook) fit(ctx context.Context) error {
	now := time.Now()
	if now.UnixNano()-h.asked.Load() <= int64(fitFor) {
		return nil
	}
	if err := eachMaster(ctx, h.client, syncsAlways); err != nil {
		return err
	}
	h.asked.Store(now.UnixNano())
	return nil
}

// syncsAlways returns nil when a server answers only what is on its disk.
func syncsAlways(ctx context.Context, c redis.Cmdable) error {
	for _, want := range []struct{ name, value string }{
		{"appendonly", "yes"}, {"appendfsync", "always"}, {"no-appendfsync-on-rewrite", "no"},
	} {
		config, err := c.ConfigGet(ctx, want.name).Result()
		if refuses(err) {
			return fmt.Errorf("%w: it does not tell its %s: %w", ErrDurability, want.name, err)
		}
		if err != nil {
			return err
		}
		if got := config[want.name]; got != want.value {
			return fmt.Errorf("%w: its %s is %q and must be %q", ErrDurability, want.name, got, want.value)
		}
	}
	return nil
}

// hasReplica returns nil when a server has a replica that follows it.
func hasReplica(ctx context.Context, c redis.Cmdable) error {
	info, err := c.Info(ctx, "replication").Result()
	if err != nil {
		return err
	}
	if Followers(parseInfo(info)) == 0 {
		return fmt.Errorf("%w: it has no replica that follows it", ErrDurability)
	}
	return nil
}

// replicaHook lets nothing count as stored that no replica has.
//
// WAIT waits for what its own connection has written, so it travels at the end of
// the same pipeline. A pipeline may be the repetition of one that was not
// confirmed, and then write nothing because it is stored already; so a write of
// our own goes before WAIT, behind which there is everything.
//
// While nothing is confirmed, that is asked for before anything is written: what
// is repeated until it is confirmed would otherwise be stored each time.
type replicaHook struct {
	doubt atomic.Bool // the last one was not confirmed
}

// DialHook implements redis.Hook.
func (*replicaHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (*replicaHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (h *replicaHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if greets(cmds) {
			return next(ctx, cmds)
		}
		if h.doubt.Load() {
			probe := newFence(ctx)
			_ = next(ctx, probe.cmds()) // its commands know more
			if err := probe.confirmed(); err != nil {
				return refuse(cmds, err)
			}
		}
		fence := newFence(ctx)
		err := next(ctx, append(slices.Clip(cmds), fence.cmds()...))
		failed := fence.confirmed()
		h.doubt.Store(failed != nil)
		if failed != nil {
			return refuse(cmds, unconfirmed{failed})
		}
		return err
	}
}

// fence is a write and the wait for a replica that has it.
type fence struct {
	write *redis.StatusCmd
	wait  *redis.IntCmd
}

func newFence(ctx context.Context) fence {
	return fence{
		write: redis.NewStatusCmd(ctx, "set", fenceKey, ""),
		wait:  redis.NewIntCmd(ctx, "wait", 1, confirmWait.Milliseconds()),
	}
}

func (f fence) cmds() []redis.Cmder { return []redis.Cmder{f.write, f.wait} }

// confirmed returns nil when a replica has the write and all before it.
func (f fence) confirmed() error {
	switch replicas, err := f.wait.Result(); {
	case err != nil:
		return fmt.Errorf("wait for a replica: %w", err)
	case f.write.Err() != nil:
		return fmt.Errorf("write what a replica is to have: %w", f.write.Err())
	case replicas < 1:
		return fmt.Errorf("%w: no replica had it after %v", ErrDurability, confirmWait)
	}
	return nil
}
