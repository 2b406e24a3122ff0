package publish

import "github.com/sealpost/sealpost/core"

// answering gathers the claims whose answers are kept together with the deliveries of
// which they speak. Then nothing can come between the two: neither the death of this
// process nor that of a connection leaves events whose claim does not know that they
// are stored, and whose repetition would store them again.
type answering struct {
	all    []core.Keyed
	claims []int // parallel to all: indexes in the flush
}

func (k *answering) reset() {
	clear(k.all)
	k.all, k.claims = k.all[:0], k.claims[:0]
}

// mark is how much fanOut has gathered up to a moment.
type mark struct{ queued, parked int }

func (f *flush) mark() mark { return mark{queued: len(f.deliveries), parked: len(f.parkings.owners)} }

// keep has the answer of a claim kept with all that fanOut has gathered since m, if
// that goes to the queue: the answer is what the request or event gets when all of it
// has been stored. What goes to backlogs is stored by other scripts: then each keeps a
// note of its part.
func (f *flush) keep(claim int, m mark, answer func() []byte) {
	now := f.mark()
	if claim < 0 || now.queued == m.queued {
		return
	}
	if now.parked == m.parked {
		f.claims[claim].Answer = answer()
	}
	f.keyed.all = append(f.keyed.all, core.Keyed{Reservation: f.claims[claim], From: m.queued, To: now.queued})
	f.keyed.claims = append(f.keyed.claims, claim)
}

// claimOf returns the claim under which an event's deliveries are stored, nil if there
// is none.
func (f *flush) claimOf(w *waiter, out *outcome) *core.Reservation {
	switch {
	case out.claim >= 0:
		return &f.claims[out.claim]
	case w.claim >= 0:
		return &f.claims[w.claim]
	default:
		return nil
	}
}

// noteKept remembers which answers the queue has kept.
func (f *flush) noteKept() {
	for i := range f.keyed.all {
		if f.keyed.all[i].Noted {
			f.kept[f.keyed.claims[i]] = true
		}
	}
}
