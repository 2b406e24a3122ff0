package redisstore

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// batch is a pipeline that may contain scripts. A script that Redis does not know,
// after a restart or a failover for instance, is sent again in full.
type batch struct {
	redis.Pipeliner
	calls []call
}

type call struct {
	script *redis.Script
	keys   []string
	args   []any
	reply  *redis.Cmd
}

func (s *Store) batch() *batch { return &batch{Pipeliner: s.client.Pipeline()} }

// durableBatch is for what must not get lost once it has been confirmed.
func (s *Store) durableBatch() *batch { return &batch{Pipeliner: s.durable.Pipeline()} }

// runDurably runs a single script.
func (s *Store) runDurably(ctx context.Context, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	b := s.durableBatch()
	reply := b.run(ctx, script, keys, args...)
	_ = b.exec(ctx) // the reply has the error
	return reply
}

// run adds a script. Its reply is complete once exec has returned.
func (b *batch) run(ctx context.Context, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	reply := script.EvalSha(ctx, b.Pipeliner, keys, args...)
	b.calls = append(b.calls, call{script: script, keys: keys, args: args, reply: reply})
	return reply
}

// exec sends the pipeline and returns the first error that is not redis.Nil.
// Those scripts, and only those, that Redis did not know are sent once more
// with their source: what has run must not run again.
func (b *batch) exec(ctx context.Context) error {
	cmds, err := b.Exec(ctx)
	if err == nil {
		return nil
	}
	explained := false
	for _, cmd := range cmds {
		err := cmd.Err()
		if err != nil && !errors.Is(err, redis.Nil) && !isNoScript(err) {
			return err
		}
		explained = explained || err != nil
	}
	if !explained {
		return err
	}
	return b.resend(ctx)
}

func (b *batch) resend(ctx context.Context) error {
	var again, replies []*redis.Cmd
	for _, c := range b.calls {
		if isNoScript(c.reply.Err()) {
			again = append(again, c.script.Eval(ctx, b.Pipeliner, c.keys, c.args...))
			replies = append(replies, c.reply)
		}
	}
	if len(again) == 0 {
		return nil
	}
	_, _ = b.Exec(ctx) // each command's own error says more
	var first error
	for i, cmd := range again {
		err := cmd.Err()
		replies[i].SetErr(err)
		replies[i].SetVal(cmd.Val())
		if err != nil && !errors.Is(err, redis.Nil) && first == nil {
			first = err
		}
	}
	return first
}

func isNoScript(err error) bool { return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") }
