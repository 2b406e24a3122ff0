package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

// Waits between two tries of a round trip; each is drawn from its second half.
const (
	firstPause = 10 * time.Millisecond
	maxPause   = 320 * time.Millisecond
)

// extras are what a bundle is stored with, or under. The zero value is nothing.
type extras struct {
	keep []keepsake // with the task, unless that cannot be done; whether answers are is noted in their Keyed
	only condition  // under which it is stored
}

// send stores ds as one task, to be run at once or not before at. fresh says that
// the id was drawn for this call. Its error is a *core.Error and means that the
// bundle is not confirmed, or wraps errMoved.
func (p *Producer) send(ctx context.Context, queue, id string, ds []core.Delivery, at time.Time, fresh bool, x extras) error {
	scratch := p.scratch.Get().(*frame.Encoder)
	defer func() {
		if scratch.Retainable() {
			p.scratch.Put(scratch)
		}
	}()
	encoded, err := scratch.Encode(ds)
	if err != nil {
		return &core.Error{Code: core.CodeTooLarge, Detail: "the event is too large for the queue", Err: err}
	}
	with := companions{bell: bellKey(queue), only: x.only}
	if p.o.Keeping != nil && !p.o.isCluster() {
		with.keep = x.keep
	}
	var payload []byte
	if len(ds) == 1 && len(encoded) <= maxInline {
		// A Cluster client sends a command again by itself when its reply is lost.
		payload = inlinePayload(encoded, fresh && !p.o.isCluster())
	} else {
		payload = referencePayload(len(ds))
		with.blobKey, with.blob, with.blobTTL = blobKey(queue, id), encoded, blobTTL
		if !at.IsZero() {
			with.blobTTL += at.Sub(p.o.Now()).Truncate(time.Second)
		}
	}
	task := asynq.NewTask(taskType, payload, p.taskOptions(queue, id, at)...)
	err = p.enqueue(ctx, task, &with)
	if errors.Is(err, errMoved) || fresh && errors.Is(err, core.ErrNotStored) {
		p.dropBlob(ctx, &with)
	}
	if errors.Is(err, errMoved) {
		return err
	}
	if err != nil {
		p.metrics.unconfirmed.Inc()
		return core.Unavailable("the queue did not confirm", fmt.Errorf("enqueue bundle %s: %w", id, err))
	}
	for _, k := range with.keep {
		if k.note == nil { // a note is only a part of what the answer waits for
			k.keyed.Noted = with.noted
		}
	}
	p.metrics.bundles.Inc()
	p.metrics.deliveries.Observe(float64(len(ds)))
	p.metrics.stored.Observe(float64(len(encoded)))
	p.metrics.encoded.Add(float64(scratch.BodySize()))
	return nil
}

// enqueue makes the round trip until it is confirmed, refused, or ctx ends.
func (p *Producer) enqueue(ctx context.Context, task *asynq.Task, with *companions) error {
	withCtx := withCompanions(ctx, with)
	for try := 0; ; try++ {
		with.noted, with.blobThere, with.blobErr, with.scriptErr = false, false, nil, nil
		_, err := p.client.EnqueueContext(withCtx, task)
		if err == nil || errors.Is(err, asynq.ErrTaskIDConflict) {
			// A conflict is our own id: an earlier try, whose reply was lost,
			// has stored it. Either way the task is only good with its blob.
			err = with.blobErr
		}
		switch {
		case err == nil:
			return nil
		case moved(with.scriptErr) && try == 0:
			return errMoved
		case moved(with.scriptErr):
			return err // an earlier try may have stored it, and it is done by now
		case (refused(with.scriptErr) || refused(with.blobErr)) && try == 0:
			// A task whose blob was refused ends without anything to deliver.
			return fmt.Errorf("%w: %w", core.ErrNotStored, err)
		case refused(with.scriptErr) || refused(with.blobErr):
			return err // an earlier try may have stored it
		case !pause(ctx, try):
			return fmt.Errorf("no time for more than %d tries: %w", try+1, err)
		}
		p.metrics.resends.Inc()
		notFirst(task.Payload()) // the task shares its bytes with what asynq sends
	}
}

// dropBlob removes the blob of a task that was not stored. One that stays ends with its
// lifetime.
func (p *Producer) dropBlob(ctx context.Context, with *companions) {
	if with.blobKey != "" {
		_ = p.o.Client.Unlink(ctx, with.blobKey).Err()
	}
}

// refused reports whether err is an answer of Redis that the next tries would
// get too, such as a full memory. The states of a restart or a failover pass.
func refused(err error) bool {
	var reply redis.Error
	if err == nil || !errors.As(err, &reply) || errors.Is(err, redis.Nil) {
		return false
	}
	for _, passing := range []string{"NOSCRIPT", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS", "max number of clients"} {
		if redis.HasErrorPrefix(err, passing) {
			return false
		}
	}
	return true
}

// pause waits before the next try. It returns false when ctx has ended, or would
// before the wait is over.
func pause(ctx context.Context, try int) bool {
	d := maxPause
	if try < 5 {
		d = firstPause << try
	}
	d = d/2 + rand.N(d/2)
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// withPatience gives ctx a deadline if it has none: a try is repeated until then.
func withPatience(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, defaultPatience)
}

// each calls f with 0 to n-1, at most limit calls at a time, and waits for all.
// A single call runs on the caller's own goroutine.
func each(n, limit int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, limit) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}
