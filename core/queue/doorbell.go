package queue

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxHold bounds how long a poll of an empty queue is held back, give or take
	// the last wait for the bell, which may take as long again. asynq fixes a
	// task's lease of 30 s before it polls, so the hold shortens it. A ring that is
	// lost, because its sender was killed between hearing it and polling, costs no
	// more than this. Whole seconds, as go-redis wants it.
	maxHold = 2 * time.Second

	// calmHold is the same for the bulk queue, where a lost ring delays nobody who
	// is within its share, and for the retry queue, whose tasks have waited longer
	// than that, so that these are asked for their length less often. A single
	// wait for the bell is no longer: a shutdown would wait for it while Redis is
	// frozen.
	calmHold = 3 * maxHold

	// bellMargin is how long after maxHold Redis may answer that nobody rang.
	bellMargin = time.Second

	// errorPause is the wait after a poll that failed. asynq would poll again at
	// once, as fast as Redis refuses connections.
	errorPause = 500 * time.Millisecond
)

// doorbellClient is the Redis client of an asynq server with a single queue.
// asynq polls an empty queue every few milliseconds; this client waits for the
// queue's bell instead and polls again when it rings. An idle queue thus costs
// two commands in two seconds, and a task is taken at once.
//
// Polling is asynq's script, three commands in Redis; whoever polls again without
// having heard a ring asks for the length of the queue first, which is one. For
// the same reason the scripts that forward delayed tasks run only where and as
// often as there is something to expect.
//
// Where the bell rang last time it is expected to ring again, and the poll travels
// along with the wait, on one connection: Redis runs it the moment the bell has
// rung, and a task costs no round trip but the wait. What it takes for a sender
// that is frozen, or gone without a word, is taken over when its lease is over.
//
// To let asynq poll again after a ring, under a lease a second fresher, was six
// times slower: it sleeps for a millisecond or two in between
// (BenchmarkEnqueueToHandler: 2.2 ms against 0.35 ms).
type doorbellClient struct {
	redis.UniversalClient
	bell     string          // key of the queue's bell
	delays   bool            // tasks are scheduled on this queue
	calm     bool            // holds for calmHold instead of maxHold
	stopping <-chan struct{} // closed when the server is to take no more tasks

	seen        sighting     // only the one poller of the server uses it
	rang        bool         // and this: the last wait for the bell was ended by it
	nextPutBack atomic.Int64 // when put-back tasks are forwarded next, Unix ns
	lastPutBack atomic.Int64 // when this server put a task back last, Unix ns
}

// sighting is what a poller knows of its queue while no bell has rung.
type sighting int

const (
	seenNothing sighting = iota // poll
	seenEmpty                   // nothing is left: wait for the bell
	seenLongAgo                 // it was empty a hold ago: ask for the length, a bell may be lost
)

// Tasks whose handler failed are put back, mostly for seconds, and looked for every
// putBackInterval by the server that did it, until putBackMemory later. All others,
// and it from then on, look every strayInterval: its process may be gone, and what
// is put back for longer may as well wait that much more.
const (
	putBackInterval = 5 * time.Second
	putBackMemory   = time.Minute
	strayInterval   = 20 * time.Second
)

// EvalSha runs a script by its digest.
func (c *doorbellClient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if isForward(keys) && (!c.forwards(keys[0]) || !c.due(ctx, keys[0])) {
		return redis.NewCmdResult(int64(0), nil)
	}
	return c.run(ctx, keys, func(r redis.Scripter) *redis.Cmd { return r.EvalSha(ctx, sha, keys, args...) })
}

// Eval runs a script by its text: asynq does so when Redis did not know its digest,
// so whether it should run at all is decided already.
func (c *doorbellClient) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return c.run(ctx, keys, func(r redis.Scripter) *redis.Cmd { return r.Eval(ctx, script, keys, args...) })
}

func (c *doorbellClient) run(ctx context.Context, keys []string, call func(redis.Scripter) *redis.Cmd) *redis.Cmd {
	switch {
	case isDequeue(keys):
		return c.dequeue(ctx, keys[0], call)
	case isForward(keys):
		cmd := call(c.UniversalClient)
		if n, err := cmd.Int(); err == nil && n > 0 {
			c.ring(ctx, n)         // what was waiting for its time can be taken now
			c.nextPutBack.Store(0) // asynq moves a hundred at a time, and asks again until none is due
		}
		return cmd
	case isPutBack(keys):
		c.lastPutBack.Store(time.Now().UnixNano())
		c.nextPutBack.Store(0)
		return call(c.UniversalClient)
	case isRequeue(keys):
		cmd := call(c.UniversalClient)
		if cmd.Err() == nil {
			c.ring(ctx, 1)
		}
		return cmd
	default:
		return call(c.UniversalClient)
	}
}

// ring wakes pollers of this queue, here or elsewhere. One that fails costs them
// a hold.
func (c *doorbellClient) ring(ctx context.Context, rings int) {
	pipe := c.Pipeline()
	ring(ctx, pipe, c.bell, rings)
	_, _ = pipe.Exec(ctx)
}

// isDequeue recognises the script that takes a task: its keys are the queue's
// pending list, pause mark, active list and leases.
func isDequeue(keys []string) bool {
	return len(keys) == 4 && strings.HasSuffix(keys[0], pendingSuffix) && strings.HasSuffix(keys[1], pausedSuffix)
}

// isRequeue recognises the script that puts a task back unharmed when a server
// shuts down: its keys are the queue's active list, leases and pending list and
// the task.
func isRequeue(keys []string) bool {
	return len(keys) == 4 && strings.HasSuffix(keys[0], activeSuffix) && strings.HasSuffix(keys[2], pendingSuffix)
}

// isPutBack recognises the script that puts a task back for later because its
// handler failed: its keys are the task, the queue's active list, leases and
// retries, and counters.
func isPutBack(keys []string) bool {
	return len(keys) > 4 && strings.HasSuffix(keys[1], activeSuffix) && strings.HasSuffix(keys[3], retrySuffix)
}

// isForward recognises the script that moves due tasks to the pending list.
func isForward(keys []string) bool {
	return len(keys) == 2 && strings.HasSuffix(keys[1], pendingSuffix) &&
		(strings.HasSuffix(keys[0], scheduledSuffix) || strings.HasSuffix(keys[0], retrySuffix))
}

// forwards reports whether delayed tasks of this kind may be due.
func (c *doorbellClient) forwards(delayed string) bool {
	if strings.HasSuffix(delayed, scheduledSuffix) {
		return c.delays
	}
	now, next, interval := time.Now().UnixNano(), c.nextPutBack.Load(), strayInterval
	if last := c.lastPutBack.Load(); last > 0 && now-last < int64(putBackMemory) {
		interval = putBackInterval
	}
	return now >= next && c.nextPutBack.CompareAndSwap(next, now+int64(interval))
}

// due reports whether a delayed task's time has come. It is one command, and
// asynq's script, which would find nothing mostly, is two. An error is left to the
// script, so that asynq gets to see it.
func (c *doorbellClient) due(ctx context.Context, delayed string) bool {
	n, err := c.ZCount(ctx, delayed, "-inf", strconv.FormatInt(time.Now().Unix(), 10)).Result()
	return err != nil || n > 0
}

func (c *doorbellClient) dequeue(ctx context.Context, pending string, take func(redis.Scripter) *redis.Cmd) *redis.Cmd {
	for begin := time.Now(); ; {
		if c.stopped() || time.Since(begin) >= c.hold() { // the lease has waited long enough, rings or not
			return redis.NewCmdResult(nil, redis.Nil)
		}
		cmd := c.poll(ctx, pending, take)
		if errors.Is(cmd.Err(), redis.Nil) {
			cmd = c.await(ctx, pending, take)
			if errors.Is(cmd.Err(), redis.Nil) {
				if c.rang || c.calm && time.Since(begin) < calmHold {
					continue
				}
				c.seen = seenLongAgo
				return cmd
			}
		}
		if err := cmd.Err(); err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") {
			c.seen = seenNothing
			c.pause()
		}
		return cmd
	}
}

// await blocks until the bell has rung, maxHold has passed or the server stops,
// for which Consumer rings the bell. The result is redis.Nil, unless a poll
// travelled along and took a task, or something failed.
func (c *doorbellClient) await(ctx context.Context, pending string, take func(redis.Scripter) *redis.Cmd) *redis.Cmd {
	polled := redis.NewCmdResult(nil, redis.Nil)
	c.seen = seenEmpty
	if c.stopped() {
		c.rang = false
		return polled
	}
	// A connection that died unnoticed must not be waited for.
	ctx, cancel := context.WithTimeout(ctx, maxHold+bellMargin)
	defer cancel()
	var wait error
	if c.rang {
		pipe := c.Pipeline()
		bell := pipe.BLPop(ctx, maxHold, c.bell)
		polled = c.take(ctx, pipe, pending, take)
		wait = bell.Err()
	} else {
		wait = c.BLPop(ctx, maxHold, c.bell).Err()
		if wait == nil {
			c.seen = seenNothing
		}
	}
	c.rang = wait == nil
	if wait != nil && !errors.Is(wait, redis.Nil) && polled.Err() != nil {
		return redis.NewCmdResult(nil, wait)
	}
	return polled
}

// hold returns how long a poll of the empty queue is held back.
func (c *doorbellClient) hold() time.Duration {
	if c.calm {
		return calmHold
	}
	return maxHold
}

func (c *doorbellClient) stopped() bool {
	select {
	case <-c.stopping:
		return true
	default:
		return false
	}
}

// pause waits after an error.
func (c *doorbellClient) pause() {
	t := time.NewTimer(errorPause)
	defer t.Stop()
	select {
	case <-c.stopping:
	case <-t.C:
	}
}

// poll takes a task, unless the queue is known to be empty.
func (c *doorbellClient) poll(ctx context.Context, pending string, take func(redis.Scripter) *redis.Cmd) *redis.Cmd {
	switch c.seen {
	case seenEmpty:
		return redis.NewCmdResult(nil, redis.Nil)
	case seenLongAgo:
		if n, err := c.LLen(ctx, pending).Result(); err == nil && n == 0 {
			return redis.NewCmdResult(nil, redis.Nil)
		} // an error is left to the poll, so that asynq gets to see it
	}
	return c.take(ctx, c.Pipeline(), pending, take)
}

// take runs pipe with a poll at its end. It learns in the same round trip whether
// more tasks are left: where the queue is shallow, most would otherwise cost a
// second poll that finds nothing.
func (c *doorbellClient) take(ctx context.Context, pipe redis.Pipeliner, pending string, take func(redis.Scripter) *redis.Cmd) *redis.Cmd {
	cmd, left := take(pipe), pipe.LLen(ctx, pending)
	_, _ = pipe.Exec(ctx) // each command holds its own error
	c.seen = seenNothing
	if n, err := left.Result(); err == nil && n == 0 {
		c.seen = seenEmpty
	}
	return cmd
}
