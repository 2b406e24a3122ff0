package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
	"github.com/sealpost/sealpost/core/stack"
)

const (
	// markTTL is how long the bitmap of a settled bundle tells a second run that
	// all is done: longer than Redis may be away between settling and the end of
	// the task.
	markTTL = 2 * time.Hour

	// inlineMarkTTL is the same for bundles inside their task, and for those whose task
	// has ended with the mark. There are many more of them, and their second run misses
	// no blob; it has to be longer than asynq takes to recover a task, which is two
	// minutes and a half.
	inlineMarkTTL = 5 * time.Minute

	// maxWait is how long a run waits for its bundle to be due. asynq runs none
	// early; longer waits come from a clock that differs, and go back.
	maxWait = 1500 * time.Millisecond
)

// missingRuns is how often a bundle without blob is put back before it is given
// up. A put-back takes six seconds on average, and a sender repeats what it has
// to store for a minute.
const missingRuns = 12

// How long a task stays away after its run failed. asynq cuts off fractions of
// the second at which it comes back.
const (
	minHandlerDelay  = time.Second // and up to maxHandlerDelay, so that a herd spreads
	maxHandlerDelay  = 5 * time.Second
	panicDelay       = 30 * time.Second
	undecodableDelay = time.Minute
)

// errStopping puts a bundle back because the consumer stops.
var errStopping = errors.New("consumer is stopping")

// errRead puts a bundle back because Redis did not yield it.
var errRead = errors.New("read bundle")

// earlyError puts a bundle back until it is due.
type earlyError struct{ due time.Time }

func (e *earlyError) Error() string { return "not due before " + e.due.Format(time.RFC3339Nano) }

// handler returns what asynq calls for each task of a queue.
func (c *Consumer) handler(queue string) asynq.Handler {
	return asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		stack.Grow16() // each task has a goroutine of its own
		if !c.handlers.enter() {
			return errStopping
		}
		defer c.handlers.leave()
		b, err := c.load(ctx, queue, task)
		if err != nil || b == nil {
			return err
		}
		if err := c.waitUntilDue(ctx, b); err != nil {
			return err
		}
		err = c.o.Handler(ctx, b)
		if err == nil && b.Ended {
			c.ended.add(ctx, b.ID)
		}
		return err
	})
}

// load returns the bundle of a task, nil when nothing is left to do.
func (c *Consumer) load(ctx context.Context, queue string, task *asynq.Task) (*core.Bundle, error) {
	id, _ := asynq.GetTaskID(ctx)
	p, err := parsePayload(task.Payload())
	if err != nil {
		return nil, err
	}
	encoded, size := p.frame, p.deliveries
	b := &core.Bundle{ID: id, Queue: queue, Bulk: queue == bulkQueue, Mark: core.Mark{DoneKey: doneKey(queue, id), TTL: inlineMarkTTL}}
	if encoded == nil {
		b.Mark.BlobKey, b.Mark.TTL = blobKey(queue, id), markTTL
	}
	var blob, done []byte
	runs, _ := asynq.GetRetryCount(ctx)
	if !p.first || runs > 0 {
		if blob, done, err = c.read(ctx, &b.Mark); err != nil {
			return nil, fmt.Errorf("%w %s: %w", errRead, id, err)
		}
	}
	if b.Mark.BlobKey != "" {
		if blob == nil {
			return nil, c.missing(b, runs, size, done)
		}
		encoded = blob
	}
	if b.Deliveries, err = frame.Decode(encoded); err != nil {
		return nil, err
	}
	if n := len(b.Deliveries); n == 0 || b.Mark.BlobKey != "" && n != size {
		return nil, undecodable("%d deliveries, %d announced", n, size)
	}
	for i := range b.Deliveries {
		b.Deliveries[i].Bulk = b.Bulk
	}
	b.Mark.Size = len(b.Deliveries)
	b.Mark.End = endOf(queue, id, &b.Mark, c.o.Now())
	var left int
	if b.Settled, left = settledOf(done, b.Mark.Size); left == 0 {
		return nil, c.alreadySettled(ctx, b)
	}
	return b, nil
}

// read fetches blob and bitmap in one round trip; nil where there is none.
func (c *Consumer) read(ctx context.Context, mark *core.Mark) (blob, done []byte, err error) {
	if mark.BlobKey == "" {
		done, err = optional(c.o.Client.Get(ctx, mark.DoneKey))
		return nil, done, err
	}
	pipe := c.o.Client.Pipeline()
	getBlob, getDone := pipe.Get(ctx, mark.BlobKey), pipe.Get(ctx, mark.DoneKey)
	_, _ = pipe.Exec(ctx) // each command holds its own error
	if blob, err = optional(getBlob); err == nil {
		done, err = optional(getDone)
	}
	return blob, done, err
}

func optional(cmd *redis.StringCmd) ([]byte, error) {
	b, err := cmd.Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return b, err
}

// settledOf reads a bitmap, in which bit 0 is the highest of the first byte, and
// counts what is left.
func settledOf(done []byte, size int) (settled []bool, left int) {
	settled = make([]bool, size)
	for i := range settled {
		settled[i] = i/8 < len(done) && done[i/8]&(0x80>>(i%8)) != 0
		if !settled[i] {
			left++
		}
	}
	return settled, left
}

// missing judges a bundle without blob. With a complete bitmap an earlier run
// settled it and died before its task was done. Otherwise a Redis that was
// nearly full may have taken the task and refused the blob, and who enqueued it
// is about to repeat that: some runs wait for it. Then its deliveries are lost,
// unless nobody was told that they were stored: an alarm, and nothing that
// another run could mend.
func (c *Consumer) missing(b *core.Bundle, runs, size int, done []byte) error {
	_, left := settledOf(done, size)
	if left == 0 {
		c.metrics.settled.Inc()
		return nil
	}
	if runs < missingRuns {
		return fmt.Errorf("%w %s: its blob is missing", errRead, b.ID)
	}
	c.metrics.lost.Inc()
	c.o.Logger.Error("bundle is gone from Redis: its deliveries are lost unless an earlier run settled them",
		"bundle", b.ID, "queue", b.Queue, "deliveries", size, "unsettled", left)
	return nil
}

// alreadySettled ends a bundle that an earlier run has settled. Its blob is left
// over when the bundle was stored again after its task was done.
func (c *Consumer) alreadySettled(ctx context.Context, b *core.Bundle) error {
	c.metrics.settled.Inc()
	if b.Mark.BlobKey == "" {
		return nil
	}
	if err := c.o.Client.Unlink(ctx, b.Mark.BlobKey).Err(); err != nil {
		return fmt.Errorf("%w %s: remove settled blob: %w", errRead, b.ID, err)
	}
	return nil
}

// waitUntilDue returns nil when every delivery that is left may be sent.
func (c *Consumer) waitUntilDue(ctx context.Context, b *core.Bundle) error {
	due := latestDue(b.Deliveries, b.Settled)
	for {
		wait := due.Sub(c.o.Now())
		if due.IsZero() || wait <= 0 {
			return nil
		}
		if wait > maxWait {
			return &earlyError{due}
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-c.stopping:
			t.Stop()
			return errStopping
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// putBackDelay is asynq's RetryDelayFunc.
func (c *Consumer) putBackDelay(_ int, err error, _ *asynq.Task) time.Duration {
	var early *earlyError
	if errors.As(err, &early) {
		return max(early.due.Sub(c.o.Now()), 0) + time.Second
	}
	switch reasonOf(err) {
	case putBackUndecodable:
		return undecodableDelay
	case putBackPanic:
		return panicDelay
	case putBackLease, putBackTimeout, putBackStopping:
		return minHandlerDelay // it waited long enough, or another consumer is ready
	default:
		return minHandlerDelay + rand.N(maxHandlerDelay-minHandlerDelay)
	}
}

func reasonOf(err error) putBackReason {
	var early *earlyError
	switch {
	case errors.Is(err, frame.ErrUndecodable):
		return putBackUndecodable
	case errors.As(err, &early):
		return putBackEarly
	case asynq.IsPanicError(err):
		return putBackPanic
	case errors.Is(err, asynq.ErrLeaseExpired):
		return putBackLease
	case errors.Is(err, errStopping), errors.Is(err, errShutdown), errors.Is(err, context.Canceled):
		return putBackStopping
	case errors.Is(err, errRead):
		return putBackRedis
	case errors.Is(err, context.DeadlineExceeded):
		return putBackTimeout
	default:
		return putBackHandler
	}
}

// putBack is asynq's ErrorHandler: the one place where failed runs are counted
// and logged.
func (c *Consumer) putBack(ctx context.Context, _ *asynq.Task, err error) {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	reason := reasonOf(err)
	c.metrics.putBack[reason].Inc()
	log := c.o.Logger.Warn
	switch reason {
	case putBackUndecodable:
		c.metrics.undecodable.Inc()
		log = c.o.Logger.Error
	case putBackEarly:
		log = c.o.Logger.Debug
	case putBackStopping:
		log = c.o.Logger.Info
	}
	log("bundle put back", "bundle", id, "queue", queue, "reason", string(reason), "error", err)
}
