package sender

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
)

// stubBacklogs keeps backlogs in memory, by the rules of redisstore. A func field,
// where set, is asked first; its error ends the call with nothing done.
type stubBacklogs struct {
	parkFunc func([]core.Parking) error
	holdFunc func(core.Claim) error

	most int // deliveries in each backlog; 0: any number

	mu         sync.Mutex
	entries    int
	waiting    map[core.EndpointRef][]core.Waiting
	due        map[core.EndpointRef]time.Time // of a look; of what is claimed the end of its lease
	owners     map[core.EndpointRef]string
	asked      map[core.EndpointRef]bool // woken while claimed
	conditions map[core.EndpointRef]core.Condition
	failing    map[core.EndpointRef]core.Failing
	claims     int
	bell       chan struct{}
}

func newStubBacklogs() *stubBacklogs {
	return &stubBacklogs{
		waiting: make(map[core.EndpointRef][]core.Waiting), due: make(map[core.EndpointRef]time.Time),
		owners: make(map[core.EndpointRef]string), asked: make(map[core.EndpointRef]bool), conditions: make(map[core.EndpointRef]core.Condition),
		failing: make(map[core.EndpointRef]core.Failing), bell: make(chan struct{}, 16),
	}
}

func (b *stubBacklogs) ring() {
	select {
	case b.bell <- struct{}{}:
	default:
	}
}

func (b *stubBacklogs) Park(_ context.Context, ps []core.Parking) ([]core.Parked, error) {
	if b.parkFunc != nil {
		if err := b.parkFunc(ps); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range ps {
		if old := b.conditions[p.Endpoint]; p.Condition.State != "" && old.State != core.StateCatchingUp && old.State != core.StateFailing {
			b.conditions[p.Endpoint] = p.Condition
		}
		if !p.Failing.IsZero() && b.failing[p.Endpoint].Since.IsZero() {
			b.failing[p.Endpoint] = core.Failing{Since: p.Failing}
		}
		for _, d := range p.Deliveries {
			b.entries++
			b.waiting[p.Endpoint] = append(b.waiting[p.Endpoint], core.Waiting{Entry: fmt.Sprintf("%012d", b.entries), Size: len(d.Event.Body), Delivery: d})
		}
		if _, known := b.due[p.Endpoint]; len(p.Deliveries) > 0 && !known {
			c := b.conditions[p.Endpoint]
			b.due[p.Endpoint] = p.Due
			if p.Due.IsZero() && (c.State == core.StateFailing || c.State == core.StatePaused) {
				b.due[p.Endpoint] = c.Until
			}
			b.ring()
		}
	}
	parked := make([]core.Parked, len(ps))
	for i := range parked {
		ref := ps[i].Endpoint
		parked[i].Stored = true
		if excess := len(b.waiting[ref]) - b.most; b.most > 0 && excess > 0 {
			parked[i].Excess = excess
			if len(ps[i].Deliveries) > 0 && b.owners[ref] == "" {
				b.due[ref] = time.Time{}
				b.ring()
			}
		}
	}
	return parked, nil
}

func (b *stubBacklogs) ClaimBacklogs(_ context.Context, most int) (claims []core.Claim, next time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for ref, due := range b.due {
		switch {
		case due.After(now):
			if wait := due.Sub(now); next == 0 || wait < next {
				next = wait
			}
		case len(claims) < most:
			b.claims++
			owner := fmt.Sprint(b.claims)
			b.owners[ref], b.due[ref] = owner, now.Add(core.ClaimLease)
			claims = append(claims, core.Claim{Endpoint: ref, Owner: owner, Condition: b.conditions[ref]})
		}
	}
	return claims, next, nil
}

func (b *stubBacklogs) AwaitBacklogs(ctx context.Context, hold time.Duration) error {
	t := time.NewTimer(hold)
	defer t.Stop()
	select {
	case <-b.bell:
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

func (b *stubBacklogs) HoldClaim(_ context.Context, c core.Claim) (bool, error) {
	if b.holdFunc != nil {
		if err := b.holdFunc(c); err != nil {
			return false, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owners[c.Endpoint] != c.Owner {
		return false, nil
	}
	b.due[c.Endpoint] = time.Now().Add(core.ClaimLease)
	b.note(c)
	return true, nil
}

func (b *stubBacklogs) note(c core.Claim) {
	if c.Condition.State == "" {
		delete(b.conditions, c.Endpoint)
		return
	}
	b.conditions[c.Endpoint] = c.Condition
}

func (b *stubBacklogs) ReleaseClaim(_ context.Context, r core.Release) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ref := r.Claim.Endpoint
	empty := len(b.waiting[ref]) == 0
	switch {
	case b.owners[ref] != r.Claim.Owner:
		return true, nil
	case r.OnlyEmpty && !empty:
		return false, nil
	}
	delete(b.owners, ref)
	b.note(r.Claim)
	if b.asked[ref] {
		r.Due = time.Time{}
		delete(b.conditions, ref)
		delete(b.asked, ref)
	}
	if empty {
		delete(b.due, ref)
	} else {
		b.due[ref] = r.Due
		b.ring()
	}
	return true, nil
}

func (b *stubBacklogs) Backlog(_ context.Context, ref core.EndpointRef, after string, most int) ([]core.Waiting, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.waiting[ref]
	from := slices.IndexFunc(all, func(w core.Waiting) bool { return w.Entry > after })
	if from < 0 {
		return nil, nil
	}
	return slices.Clone(all[from:min(from+most, len(all))]), nil
}

func (b *stubBacklogs) NoteRecovered(_ context.Context, refs []core.EndpointRef) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ref := range refs {
		delete(b.failing, ref)
	}
	return nil
}

func (b *stubBacklogs) RaiseWarning(_ context.Context, ref core.EndpointRef, percent int) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, ok := b.failing[ref]
	if !ok || f.Warned >= percent {
		return false, nil
	}
	f.Warned = percent
	b.failing[ref] = f
	return true, nil
}

// remove takes what is settled out of a backlog.
func (b *stubBacklogs) remove(d core.Drained) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting[d.Endpoint] = slices.DeleteFunc(b.waiting[d.Endpoint], func(w core.Waiting) bool {
		return slices.ContainsFunc(d.Entries, func(e core.Waiting) bool { return e.Entry == w.Entry })
	})
}

// fill adds what is kept beside an endpoint's record.
func (b *stubBacklogs) fill(e *core.Endpoint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.Condition, e.Failing = b.conditions[e.Ref()], b.failing[e.Ref()]
}

// left returns how many deliveries wait.
func (b *stubBacklogs) left(ref core.EndpointRef) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting[ref])
}

func (b *stubBacklogs) condition(ref core.EndpointRef) core.Condition {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conditions[ref]
}

func (b *stubBacklogs) failingSince(ref core.EndpointRef) core.Failing {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failing[ref]
}

// wake is what the API does when an endpoint was changed.
func (b *stubBacklogs) wake(ref core.EndpointRef) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conditions, ref)
	if b.owners[ref] != "" {
		b.asked[ref] = true
		return
	}
	if _, waits := b.due[ref]; waits {
		b.due[ref] = time.Time{}
		b.ring()
	}
}

// stubAnnouncer remembers what it was told.
type stubAnnouncer struct {
	mu    sync.Mutex
	told  []string
	count map[string]int
}

func (a *stubAnnouncer) tell(format string, args ...any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == nil {
		a.count = make(map[string]int)
	}
	text := fmt.Sprintf(format, args...)
	a.told = append(a.told, text)
	a.count[text]++
	return nil
}

func (a *stubAnnouncer) Disabled(_ context.Context, e *core.Endpoint, reason core.Reason) error {
	return a.tell("%s disabled: %s", e.ID, reason)
}

func (a *stubAnnouncer) Failing(_ context.Context, e *core.Endpoint, _, _ time.Time, percent int) error {
	return a.tell("%s failing: %d %%", e.ID, percent)
}

func (a *stubAnnouncer) all() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.count)
}

// steal makes the claim on a backlog look like one whose lease is over.
func (b *stubBacklogs) steal(ref core.EndpointRef) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due[ref] = time.Time{}
	b.ring()
}
