package sender

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sealpost/sealpost/core"
)

// confirmParked puts deliveries into the backlogs of their endpoints, and notes
// what the verdicts say about endpoints, if they were looked at: rechecked. A note
// without deliveries is not waited for: the next attempts lead to it again.
func (s *Sender) confirmParked(ctx context.Context, verdicts []*verdict, rechecked bool) error {
	parkings := parkingsOf(verdicts, rechecked)
	if len(parkings) == 0 {
		return nil
	}
	parked, err := s.store.Park(ctx, parkings)
	stored := make(map[core.EndpointRef]bool, len(parkings))
	waits := false
	for i := range parkings {
		stored[parkings[i].Endpoint] = err == nil || i < len(parked) && parked[i].Stored
		waits = waits || len(parkings[i].Deliveries) > 0
	}
	for _, v := range verdicts {
		if parks(v, rechecked) {
			v.confirmed = stored[v.delivery.Ref()]
			if !v.confirmed {
				continue // with its note, once more
			}
		}
		if rechecked {
			v.condition, v.failing = core.Condition{}, false
		}
	}
	switch {
	case err == nil:
		return nil
	case !waits:
		s.logger.Warn("could not note what was found about endpoints", "endpoints", len(parkings), "error", err)
		return nil
	}
	return fmt.Errorf("park deliveries: %w", err)
}

// parks reports whether v's delivery is to be parked now. What was tried is only
// parked if its endpoint was looked at since: it may be deleted.
func parks(v *verdict, rechecked bool) bool {
	return v.step == stepPark && !v.confirmed && (rechecked || !v.hasRow)
}

// parkingsOf gathers what goes to each endpoint's backlog, in the order of the
// verdicts.
func parkingsOf(verdicts []*verdict, rechecked bool) []core.Parking {
	var parkings []core.Parking
	var index map[core.EndpointRef]int
	for _, v := range verdicts {
		park := parks(v, rechecked)
		if !park && (!rechecked || v.condition.State == "" && !v.failing) {
			continue
		}
		ref := v.delivery.Ref()
		i, ok := index[ref]
		if index == nil {
			index = make(map[core.EndpointRef]int)
		}
		if !ok {
			i = len(parkings)
			index[ref] = i
			parkings = append(parkings, core.Parking{Endpoint: ref})
		}
		p := &parkings[i]
		if graver(v.condition, p.Condition) {
			p.Condition = v.condition
		}
		if v.failing && p.Failing.IsZero() {
			p.Failing = v.row.EndedAt()
		}
		if park {
			p.Deliveries = append(p.Deliveries, v.delivery)
			p.Due = laterOf(p.Due, v.due)
		}
	}
	return parkings
}

// graver reports whether a is to be noted rather than b: the worse state, or the
// same for longer.
func graver(a, b core.Condition) bool {
	states := core.States()
	worse := cmp.Compare(slices.Index(states, a.State), slices.Index(states, b.State))
	return worse > 0 || worse == 0 && a.Until.After(b.Until)
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// drainBooks keeps the results of deliveries out of ref's backlog.
func (s *Sender) drainBooks(ctx context.Context, ref core.EndpointRef) *books {
	return &books{s: s, detached: context.WithoutCancel(ctx), name: ref.ID, source: backlogOf(ref), write: s.store.Record}
}

// backlogOf is the source of deliveries out of the backlog of an endpoint.
type backlogOf core.EndpointRef

// note implements source: what is settled leaves the backlog.
func (b backlogOf) note(rec *core.Record, ready []*verdict, _ int) {
	rec.Drained.Endpoint = core.EndpointRef(b)
	for _, v := range ready {
		if v.step != stepStay {
			rec.Drained.Entries = append(rec.Drained.Entries, *v.entry)
		}
	}
}
