package publish

import (
	"context"

	"github.com/sealpost/sealpost/core"
)

// settle answers the requests of the flush. Those without an idempotency key
// are answered at once, the others after their answers have been kept.
func (f *flush) settle(ctx context.Context) {
	for i, w := range f.waiters {
		keyed := f.conclude(w)
		f.count(w)
		if !keyed {
			f.waiters[i] = nil // answered: it belongs to its caller again
			w.finish()
		}
	}
	f.closeClaims(ctx)
	for i, w := range f.waiters {
		if w != nil {
			f.waiters[i] = nil
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
	keyed = f.concludeItems(w)
	switch {
	case w.unconfirmed != nil:
		w.err = asUnavailable(detailUnconfirmed, w.unconfirmed)
	case w.request.Batch:
		w.answer = appendBatch(nil, w.outcomes)
	case w.outcomes[0].err != nil:
		w.err = w.outcomes[0].err
	default:
		w.answer = appendItem(nil, &w.outcomes[0])
	}
	if w.claim >= 0 && w.err == nil {
		f.finish(w.claim, w.answer)
		keyed = true
	} else if w.claim >= 0 && w.nothingStored() {
		f.release(w.claim)
		keyed = true
	}
	return keyed
}

// concludeItems closes the claims of w's own events and notes in unconfirmed
// the first delivery that failed. An event whose deliveries are all confirmed
// keeps its answer even when another event of its batch failed.
func (f *flush) concludeItems(w *waiter) (keyed bool) {
	stored := w.unconfirmed == nil
	for i := range w.outcomes {
		out := &w.outcomes[i]
		if out.event == nil {
			continue
		}
		if out.failed != nil && w.unconfirmed == nil {
			w.unconfirmed = out.failed
		}
		switch {
		case out.claim < 0:
		case !stored:
			f.release(out.claim)
			keyed = true
		case out.failed == nil:
			f.finish(out.claim, appendItem(nil, out))
			keyed = true
		}
	}
	return keyed
}

// nothingStored reports whether no delivery of w can have reached the queue.
func (w *waiter) nothingStored() bool {
	for i := range w.outcomes {
		if w.outcomes[i].deliveries > 0 {
			return false
		}
	}
	return true
}

func (f *flush) finish(claim int, answer []byte) {
	r := f.claims[claim]
	r.Answer = answer
	f.finished = append(f.finished, r)
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
func (f *flush) closeClaims(ctx context.Context) {
	if len(f.finished) > 0 {
		if err := f.p.o.Store.Finish(ctx, f.finished); err != nil {
			f.p.complain("answers to idempotency keys were not kept; a repetition may be delivered again under the same event id", err)
		}
	}
	if len(f.released) > 0 {
		if err := f.p.o.Store.Release(ctx, f.released); err != nil {
			f.p.complain("idempotency keys were not released; they are free when their lease ends", err)
		}
	}
}
