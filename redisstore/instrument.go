package redisstore

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Instrument counts and times the round trips of a client that Open has returned
// for p, as one operation: `enqueue` for ProfilePublish, `queue` for
// ProfileQueue. The operations of ProfileStore are the Store's own, which it
// tells apart itself; for that profile nothing is done.
func Instrument(client redis.UniversalClient, p Profile, r prometheus.Registerer) error {
	o, ok := map[Profile]op{ProfilePublish: opEnqueue, ProfileQueue: opQueue}[p]
	if !ok {
		return nil
	}
	m, err := newMetrics(r)
	if err != nil {
		return err
	}
	client.AddHook(&meter{duration: m.durations[o], failures: m.errors[o]})
	return nil
}

// meter is a hook that measures every round trip.
type meter struct {
	duration prometheus.Observer
	failures prometheus.Counter
}

// DialHook implements redis.Hook.
func (*meter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (m *meter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmd)
		if !blocks(cmd) {
			m.duration.Observe(time.Since(start).Seconds())
		}
		if isFailure(err) {
			m.failures.Inc()
		}
		return err
	}
}

// blocks reports whether cmd waits in Redis by intention: how long says nothing
// about Redis.
func blocks(cmd redis.Cmder) bool { return cmd.Name() == "blpop" }

// ProcessPipelineHook implements redis.Hook.
func (m *meter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmds)
		if !slices.ContainsFunc(cmds, blocks) {
			m.duration.Observe(time.Since(start).Seconds())
		}
		if err != nil && anyFailure(err, cmds) {
			m.failures.Inc()
		}
		return err
	}
}

// anyFailure reports whether a pipeline that returned err had a failure: err may
// be an answer like "nothing there" that hides a later one.
func anyFailure(err error, cmds []redis.Cmder) bool {
	if isFailure(err) {
		return true
	}
	for _, cmd := range cmds {
		if isFailure(cmd.Err()) {
			return true
		}
	}
	return false
}

// isFailure reports whether err says that Redis did not confirm, rather than
// that nothing was there, that a script has to be sent in full, or that the
// caller wanted no answer any more.
func isFailure(err error) bool {
	return err != nil && !errors.Is(err, redis.Nil) && !isNoScript(err) && !errors.Is(err, context.Canceled)
}
