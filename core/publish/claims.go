package publish

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/core"
)

// prepare lists the organizations and idempotency keys of the flush.
func (f *flush) prepare() {
	for _, w := range f.waiters {
		w.organization = f.organization(w.request.Organization)
		first := len(f.claims)
		f.claim(w)
		if f.p.o.Quota.Limits() {
			f.draw(w, first)
		}
	}
}

func (f *flush) organization(name string) int {
	i, ok := f.index[name]
	if !ok {
		i = len(f.organizations)
		f.index[name] = i
		f.organizations = append(f.organizations, organization{name: name})
		f.names = append(f.names, name)
	}
	return i
}

// claim makes the events of w and lists the keys that it claims.
func (f *flush) claim(w *waiter) {
	r := w.request
	w.claim = -1
	base := "" // of the ids that have to be made up
	if r.Key != "" || r.Batch || r.Items[0].ID == "" {
		base = core.NewEventID(r.Arrived)
	}
	if r.Key != "" {
		if !r.Batch && r.Items[0].ID != "" {
			base = r.Items[0].ID
		}
		w.claim = f.reserve(r.Organization, headerClaim+r.Key, r.BodyHash, base)
	}
	clear(f.firsts)
	events := make([]core.Event, len(r.Items))
	for i := range r.Items {
		item, out := &r.Items[i], &w.outcomes[i]
		out.claim = -1
		if item.Err != nil {
			out.err = item.Err
			continue
		}
		own := r.Key == "" && item.ID != "" // the id is an idempotency key
		if own && r.Batch {
			if out.first = f.firsts[repeat{item.ID, item.Hash}]; out.first != nil {
				continue
			}
			f.firsts[repeat{item.ID, item.Hash}] = out
		}
		events[i] = core.Event{ID: eventID(r, i, base), Type: item.Type, Body: item.Body, AcceptedAt: r.Arrived, MaxAge: item.MaxAge, Origin: r.Origin, Index: i}
		out.event = &events[i]
		if own {
			events[i].Index = 0 // alone under its key, which may come again in another batch
			out.claim = f.reserve(r.Organization, idClaim+item.ID, item.Hash, item.ID)
		}
	}
}

// repeat tells whether two events of a batch are one and the same.
type repeat struct {
	id   string
	hash [32]byte
}

// eventID returns the id of item i: the given one, or one that follows from
// base, so that a repetition which takes over base makes the same ids.
func eventID(r *Request, i int, base string) string {
	switch {
	case r.Items[i].ID != "":
		return r.Items[i].ID
	case r.Batch:
		return indexed(base, i)
	default:
		return base
	}
}

func (f *flush) reserve(organization, key string, hash [32]byte, eventID string) int {
	f.claims = append(f.claims, core.Reservation{
		Organization: organization, Key: key, BodyHash: hash, Owner: core.NewToken(), EventID: eventID,
	})
	f.kept = append(f.kept, false)
	return len(f.claims) - 1
}

// begin reads versions, claims keys and takes from quotas, and drops from the
// flush what has been done before, is being done elsewhere, contradicts an earlier
// use, or exceeds its quota.
func (f *flush) begin(ctx context.Context) error {
	versions, states, err := f.p.o.Store.Begin(ctx, f.names, f.claims, f.gathered())
	if err == nil && (len(versions) != len(f.names) || len(states) != len(f.claims)) {
		err = errors.New("the store answered another number of questions than it was asked")
	}
	if err != nil {
		return err
	}
	f.states = states
	now := f.p.o.Now()
	for i := range f.organizations {
		o := &f.organizations[i]
		o.snapshot = f.p.snapshots.get(o.name, versions[i], now)
	}
	for _, w := range f.waiters {
		f.judge(w)
	}
	f.applyQuota()
	return nil
}

// judge applies the states of w's claims.
func (f *flush) judge(w *waiter) {
	if w.claim >= 0 {
		state := &f.states[w.claim]
		if err := claimError(state); err != nil {
			w.err = err
		} else if state.Kind == core.ReservationAnswered {
			w.answer = state.Answer
		} else if state.Kind == core.ReservationTakenOver {
			f.rename(w, state.EventID)
			for i := range w.outcomes {
				w.outcomes[i].before = state.Stored[i]
			}
		}
		if w.err != nil || w.answer != nil {
			for i := range w.outcomes {
				w.outcomes[i].event = nil
			}
		}
		return
	}
	for i := range w.outcomes {
		out := &w.outcomes[i]
		if out.first != nil {
			out.err, out.stored = out.first.err, out.first.stored
		}
		if out.claim < 0 {
			continue
		}
		state := &f.states[out.claim]
		if out.err = claimError(state); out.err != nil {
			out.event = nil
		} else if state.Kind == core.ReservationAnswered {
			out.stored, out.event = state.Answer, nil
		}
		out.before = state.Stored[0]
	}
}

// rename gives the events of a repeated request the ids of its first holder,
// which may have been delivered already.
func (f *flush) rename(w *waiter, base string) {
	for i := range w.outcomes {
		if event := w.outcomes[i].event; event != nil {
			event.ID = eventID(w.request, i, base)
		}
	}
}
