package publish

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/core"
)

const (
	// closeTime bounds the closing of idempotency keys, and closeTry one of the two
	// tries to keep answers. They have a time of their own: a confirmation that came at
	// the end of the flush's budget must still be remembered, or the repetition of its
	// request is a duplicate where no notes are kept, and waits for the lease elsewhere.
	closeTime = 400 * time.Millisecond
	closeTry  = 200 * time.Millisecond
	closings  = 2
)

var errCloseTimeout = errors.New("the store did not close idempotency keys in time")

// settle answers the requests of part. Those without an idempotency key are
// answered at once, the others after their answers have been kept.
func (f *flush) settle(part []*waiter) {
	for i, w := range part {
		keyed := f.conclude(w)
		f.count(w)
		if !keyed {
			part[i] = nil // answered: it belongs to its caller again
			w.finish()
		}
	}
	f.closeClaims()
	for i, w := range part {
		if w != nil {
			part[i] = nil
			w.finish()
		}
	}
}

// count counts each event of an answered request once, by what its answer says.
// A request that is refused as a whole is counted by Publish.
func (f *flush) count(w *waiter) {
	if w.err != nil {
		return
	}
	var accepted, deliveries, repeated int
	for i := range w.outcomes {
		switch out := &w.outcomes[i]; {
		case out.err != nil:
			f.p.metrics.reject(out.err.Code, 1)
		case out.event == nil:
			repeated++
		default:
			accepted++
			deliveries += out.deliveries
			f.logAccepted(w, out)
		}
	}
	f.p.metrics.accept(accepted, deliveries, repeated)
}

// conclude composes w's answer. It reports whether the answer has to wait for
// claims that are to be closed.
func (f *flush) conclude(w *waiter) (keyed bool) {
	if w.err != nil || w.answer != nil {
		return false // decided by its claim
	}
	failed, keyed := f.concludeItems(w)
	switch {
	case w.skipped != nil:
		w.err = w.skipped
	case failed != nil:
		w.err = asUnavailable(detailUnconfirmed, failed)
	case !w.request.Batch && w.outcomes[0].err != nil:
		w.err = w.outcomes[0].err
	case w.claim >= 0:
		w.answer = f.answerTo(w.claim, w.compose)
	default:
		w.answer = w.compose()
	}
	if w.claim >= 0 && w.err == nil {
		keyed = f.finish(w.claim, w.answer)
	} else if w.claim >= 0 && w.nothingStored() {
		f.release(w.claim)
		keyed = true
	}
	return keyed
}

// compose returns the answer to a request whose deliveries are all stored.
func (w *waiter) compose() []byte {
	if w.request.Batch {
		return appendBatch(nil, w.outcomes)
	}
	return appendItem(nil, &w.outcomes[0])
}

// compose returns the answer to an event whose deliveries are all stored.
func (o *outcome) compose() []byte { return appendItem(nil, o) }

// answerTo returns the answer of a claim: the one that was made when its deliveries
// were, if there is one.
func (f *flush) answerTo(claim int, compose func() []byte) []byte {
	if answer := f.claims[claim].Answer; answer != nil {
		return answer
	}
	return compose()
}

// concludeItems closes the claims of w's own events and returns the first
// delivery's failure. An event whose deliveries are all confirmed keeps its
// answer even when another event of its batch failed.
func (f *flush) concludeItems(w *waiter) (failed error, keyed bool) {
	for i := range w.outcomes {
		out := &w.outcomes[i]
		if out.event == nil {
			continue
		}
		if failed == nil {
			failed = out.failed
		}
		switch {
		case out.claim < 0:
		case w.skipped != nil, out.failed != nil && out.nothingStored():
			f.release(out.claim)
			keyed = true
		case out.failed == nil:
			keyed = f.finish(out.claim, f.answerTo(out.claim, out.compose)) || keyed
		}
	}
	return failed, keyed
}

// nothingStored reports whether no delivery of w can have reached the queue.
func (w *waiter) nothingStored() bool {
	if w.skipped != nil {
		return true
	}
	for i := range w.outcomes {
		if !w.outcomes[i].nothingStored() {
			return false
		}
	}
	return true
}

// finish lists a claim whose answer is to be kept. It reports false when that has
// been done together with what the answer speaks of.
func (f *flush) finish(claim int, answer []byte) bool {
	if f.kept[claim] {
		return false
	}
	r := f.claims[claim]
	r.Answer = answer
	f.finished = append(f.finished, r)
	return true
}

// release forgets a claim whose events have definitely not been stored. One
// that was taken over stays until its lease ends: its first holder may have
// stored them, and only the claim remembers under which id.
func (f *flush) release(claim int) {
	if f.states[claim].Kind == core.ReservationGranted {
		f.released = append(f.released, f.claims[claim])
	}
}

// closeClaims keeps the answers. A failure changes no answer: the deliveries
// are stored, and to say otherwise would make the caller repeat them. A later
// repetition takes over the claim with the same event id.
func (f *flush) closeClaims() {
	if len(f.finished) == 0 && len(f.released) == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), closeTime, errCloseTimeout)
	defer cancel()
	if err := closeAll(ctx, f.p.o.Store.Finish, f.finished); err != nil {
		f.p.complain("answers to idempotency keys were not kept; a repetition waits until their lease ends, and in a Redis Cluster may be delivered again under the same event id", err)
	}
	if err := closeAll(ctx, f.p.o.Store.Release, f.released); err != nil {
		f.p.complain("idempotency keys were not released; they are free when their lease ends", err)
	}
	clear(f.finished)
	clear(f.released)
	f.finished, f.released = f.finished[:0], f.released[:0]
}

// closeAll closes rs by one of the store's calls, which both may be repeated.
func closeAll(ctx context.Context, call func(context.Context, []core.Reservation) error, rs []core.Reservation) (err error) {
	if len(rs) == 0 {
		return nil
	}
	for range closings {
		ctx, cancel := context.WithTimeoutCause(ctx, closeTry, errCloseTimeout)
		err = call(ctx, rs)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}
