package queue

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// companions are the commands that travel with asynq's enqueue script in one
// round trip: the blob before it, the bell after it, and answers and notes, which become
// a part of it. asynq knows nothing of them; they reach the client that it was given through
// the context.
type companions struct {
	blobKey string // "": no blob
	blob    []byte
	blobTTL time.Duration
	bell    string     // key of the bell to ring if the task can run at once
	keep    []keepsake // kept with the task
	only    condition  // under which the task is stored; not with keep

	noted     bool  // all of keep is kept
	blobThere bool  // it has been written in this try, or was there
	blobErr   error // why the blob was not written
	scriptErr error // of the script; asynq turns it into text
}

type companionsKey struct{}

func withCompanions(ctx context.Context, c *companions) context.Context {
	return context.WithValue(ctx, companionsKey{}, c)
}

// companionClient is the Redis client of the producer's asynq.Client.
type companionClient struct {
	redis.UniversalClient
	noter   *noter // nil: nothing is kept
	unmoved *wrapping
}

// EvalSha runs a script by its digest. After NOSCRIPT asynq calls Eval, and the
// companions travel again, which changes nothing.
func (c *companionClient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	with, ok := ctx.Value(companionsKey{}).(*companions)
	if !ok {
		return c.UniversalClient.EvalSha(ctx, sha, keys, args...)
	}
	wrapping, allKeys, allArgs := c.wrap(with, keys, args)
	if wrapping == nil {
		return c.run(ctx, with, keys, func(r redis.Scripter) *redis.Cmd { return r.EvalSha(ctx, sha, keys, args...) })
	}
	if !wrapping.knows(sha) {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(unknownScript{})
		return cmd
	}
	return c.run(ctx, with, keys, func(r redis.Scripter) *redis.Cmd { return wrapping.evalSha(ctx, r, sha, allKeys, allArgs) })
}

// Eval runs a script by its text.
func (c *companionClient) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	with, ok := ctx.Value(companionsKey{}).(*companions)
	if !ok {
		return c.UniversalClient.Eval(ctx, script, keys, args...)
	}
	wrapping, allKeys, allArgs := c.wrap(with, keys, args)
	if wrapping == nil {
		return c.run(ctx, with, keys, func(r redis.Scripter) *redis.Cmd { return r.Eval(ctx, script, keys, args...) })
	}
	return c.run(ctx, with, keys, func(r redis.Scripter) *redis.Cmd { return wrapping.eval(ctx, r, script, allKeys, allArgs) })
}

// wrap returns what asynq's script is to be a part of, nil if of nothing, and what that
// is called with.
func (c *companionClient) wrap(with *companions, keys []string, args []any) (*wrapping, []string, []any) {
	switch {
	case len(with.keep) > 0:
		keys, args = c.noter.extend(keys, args, with)
		return &c.noter.wrapping, keys, args
	case with.only.key != "":
		keys, args = with.only.extend(keys, args)
		return c.unmoved, keys, args
	default:
		return nil, nil, nil
	}
}

func (c *companionClient) run(ctx context.Context, with *companions, keys []string, script func(redis.Scripter) *redis.Cmd) *redis.Cmd {
	pipe := c.Pipeline()
	var blob *redis.StatusCmd
	if with.blobKey != "" {
		blob = pipe.SetArgs(ctx, with.blobKey, with.blob, redis.SetArgs{Mode: "NX", TTL: with.blobTTL})
	}
	cmd := script(pipe)
	// asynq itself decides between "now" and "later"; its key tells which.
	if with.bell != "" && len(keys) > 1 && strings.HasSuffix(keys[1], pendingSuffix) {
		ring(ctx, pipe, with.bell, 1)
	}
	_, _ = pipe.Exec(ctx) // each command holds its own error
	if len(with.keep) > 0 {
		with.noted = kept(cmd) == len(with.keep)
	}
	with.scriptErr = cmd.Err()
	if blob != nil {
		with.blobErr = blob.Err()
		with.blobThere = with.blobThere || with.blobErr == nil || errors.Is(with.blobErr, redis.Nil)
	}
	if with.blobThere { // what a second pipeline after NOSCRIPT says of it does not matter
		with.blobErr = nil
	}
	return cmd
}
