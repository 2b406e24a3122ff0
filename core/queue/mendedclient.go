package queue

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// syncTimeout bounds a script that runs although asynq has cancelled it.
	syncTimeout = 3 * time.Second

	// subscribeTimeout bounds the wait for the confirmation of a subscription.
	subscribeTimeout = 3 * time.Second
)

// mendedClient is the Redis client of an asynq server, with two mistakes of
// asynq 0.26 made good:
//
//   - The call that ends a task (Done, Retry, Archive), when it fails, is
//     repeated in the background with a context that asynq has cancelled itself
//     on the way there. It could never succeed, and a delivered bundle would run
//     again a minute later.
//   - The channel on which tasks are cancelled leaks a connection with every
//     failed subscription, and waits for the confirmation without a bound, which
//     a frozen Redis turns into a shutdown that never ends.
type mendedClient struct {
	redis.UniversalClient
}

// EvalSha runs a script by its digest, in spite of a cancelled context.
func (c *mendedClient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	ctx, cancel := uncancelled(ctx)
	defer cancel()
	return c.UniversalClient.EvalSha(ctx, sha, keys, args...)
}

// Eval runs a script by its text, in spite of a cancelled context.
func (c *mendedClient) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	ctx, cancel := uncancelled(ctx)
	defer cancel()
	return c.UniversalClient.Eval(ctx, script, keys, args...)
}

// uncancelled returns ctx or, once it is cancelled, one that is not. asynq
// cancels only contexts of its own, never to make a script stop.
func uncancelled(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != context.Canceled {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), syncTimeout)
}

// Subscribe subscribes for asynq, which then waits for one message without a
// bound. So the confirmation is awaited here, and what asynq gets to see is the
// answer to a ping. A subscription that is not confirmed is returned closed, and
// asynq tries again five seconds later.
func (c *mendedClient) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	ps := c.UniversalClient.Subscribe(ctx, channels...)
	_, err := ps.ReceiveTimeout(ctx, subscribeTimeout)
	if err == nil {
		err = ps.Ping(ctx)
	}
	if err != nil {
		_ = ps.Close()
	}
	return ps
}
