package sender

import (
	"context"
	"slices"
	"sync"
	"time"
)

// admittedPerSlot is how many deliveries may be under way, waiting for a slot or
// in flight, for each slot of the process: enough to keep the slots busy while
// results are settled, few enough that a bundle once begun is soon finished.
const admittedPerSlot = 4

// admission lets bundles begin in the order of their arrival, as long as the
// deliveries of those that have begun are few enough; bulk bundles have one of
// their own. Without it every bundle that the queue hands over would take its turn
// at the slots, all would be finished late, and each would settle its results in
// small pieces.
//
// The next one begins as soon as there is any room, however large it is: one slow
// delivery must not keep out a bundle that would need all of it.
type admission struct {
	mu      sync.Mutex
	free    int        // room; below 0 after a bundle that was larger than it
	most    int        // free when nothing is under way
	waiting []*entrant // in order
}

// entrant is a bundle that waits.
type entrant struct {
	deliveries int
	admitted   chan struct{} // closed with the admission's lock held
}

func newAdmission(most int) *admission { return &admission{free: most, most: most} }

// enter waits until the deliveries of a bundle may begin and returns how many
// places they take, to be given back by leave. It returns 0 when ctx ends, limit
// passes or stop is closed before.
func (a *admission) enter(ctx context.Context, deliveries int, limit time.Duration, stop <-chan struct{}) int {
	a.mu.Lock()
	if len(a.waiting) == 0 && a.free > 0 {
		a.free -= deliveries
		a.mu.Unlock()
		return deliveries
	}
	e := &entrant{deliveries: deliveries, admitted: make(chan struct{})}
	a.waiting = append(a.waiting, e)
	a.mu.Unlock()

	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-e.admitted:
		return deliveries
	case <-ctx.Done():
	case <-timer.C:
	case <-stop:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.waiting, e); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
		return 0
	}
	return deliveries // admitted meanwhile
}

// leave gives back the places of deliveries that are no longer under way.
func (a *admission) leave(deliveries int) {
	if deliveries == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free += deliveries
	a.admit()
}

// admit lets in who is next, as long as there is room. The caller holds the lock.
func (a *admission) admit() {
	for len(a.waiting) > 0 && a.free > 0 {
		e := a.waiting[0]
		a.waiting = slices.Delete(a.waiting, 0, 1)
		a.free -= e.deliveries
		close(e.admitted)
	}
}
