package queue

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// end does what redisstore does behind the last mark.
func (f *fixture) end(b *core.Bundle) int {
	f.t.Helper()
	n, err := redis.NewScript(b.Mark.End.Source).Run(context.Background(), f.client, b.Mark.End.Keys, b.Mark.End.Args...).Int()
	if err != nil {
		f.t.Errorf("end of task %s: %v", b.ID, err)
	}
	return n
}

// A task that ends with its last mark is over at once, counted once, and costs no
// call of asynq's.
func TestTaskEndsWithItsLastMark(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var done atomic.Int32
	watched := f.sibling()
	watched.AddHook(&faultHook{command: func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		if runsDone(cmd) {
			done.Add(1)
		}
		return next(ctx, cmd)
	}})
	type state struct {
		end            int
		active, leases int64
		task           int64
		markKept       bool // for some minutes
	}
	states := make(chan state, 2)
	c, stop := f.consumeWith(func(ctx context.Context, b *core.Bundle) error {
		f.settleAll(b.Mark)
		s := state{end: f.end(b)}
		s.active = f.client.LLen(ctx, asynqKey(b.Queue, activeSuffix)).Val()
		s.leases = f.client.ZCard(ctx, asynqKey(b.Queue, leaseSuffix)).Val()
		s.task = f.client.Exists(ctx, taskKeyPrefix(b.Queue)+b.ID).Val()
		ttl := f.client.PTTL(ctx, b.Mark.DoneKey).Val()
		s.markKept = ttl > inlineMarkTTL-time.Minute && ttl <= inlineMarkTTL
		b.Ended = true
		states <- s
		return nil
	}, func(o *ConsumerOptions) { o.Client, o.Bundles = watched, 1 })
	p := f.producer()
	for _, n := range []int{1, 20} {
		if errs := p.Enqueue(t.Context(), fanOut(event("evt_1", 0), n)); errs != nil {
			t.Fatal(errs)
		}
		if s := receive(t, "task", states); s != (state{end: 1, markKept: true}) {
			t.Errorf("%d deliveries: %+v; want an end of 1, and nothing left but the mark, for five minutes", n, s)
		}
	}
	until(t, "asynq has let go of all tasks", func() bool {
		empty := true
		c.ended.ids.Range(func(any, any) bool { empty = false; return false })
		return empty
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
	if done.Load() != 0 {
		t.Errorf("asynq's Done was called %d times", done.Load())
	}
	if n, err := f.client.Get(t.Context(), asynqKey("deliver-00", processedSuffix)).Int(); n != 2 || err != nil {
		t.Errorf("%d tasks are counted, %v; want 2", n, err)
	}
	f.empty()
}

// Neither a task whose mark was refused nor one that was taken over ends.
func TestTaskEndsOnlyWithItsMark(t *testing.T) {
	t.Parallel()
	f := setup(t)
	bundles, release := make(chan *core.Bundle, 1), make(chan struct{})
	f.consume(func(_ context.Context, b *core.Bundle) error {
		bundles <- b
		<-release
		f.settleAll(b.Mark)
		return nil
	})
	if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 2)); errs != nil {
		t.Fatal(errs)
	}
	b := receive(t, "bundle", bundles)
	if n := f.end(b); n != 0 {
		t.Errorf("without a mark: %d; want 0", n)
	}
	f.client.SetBit(t.Context(), b.Mark.DoneKey, 0, 1)
	if n := f.end(b); n != 0 {
		t.Errorf("with a part of the mark: %d; want 0", n)
	}
	active := b.Mark.End.Keys[0]
	f.client.SetBit(t.Context(), b.Mark.DoneKey, 1, 1)
	f.client.LRem(t.Context(), active, 0, b.ID)
	if n := f.end(b); n != 0 {
		t.Errorf("of a task that another has: %d; want 0", n)
	}
	if f.client.Exists(t.Context(), b.Mark.End.Keys[2]).Val() != 1 {
		t.Error("its data is gone")
	}
	f.client.LPush(t.Context(), active, b.ID)
	close(release)
	until(t, "asynq has ended it, as the handler has not", func() bool {
		return f.client.Exists(t.Context(), b.Mark.End.Keys[2]).Val() == 0
	})
}
