package sender

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// taken returns the endpoints whose slots w takes, one for each slot.
func taken(l *limiter, w *waiter) (endpoints []string) {
	for _, g := range l.take(w) {
		for range g.slots {
			endpoints = append(endpoints, g.endpoint)
		}
	}
	return endpoints
}

func TestLimiterGrantsInTurn(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, time.Now)
	first, second, third := newWaiter(false), newWaiter(false), newWaiter(false)
	if !l.acquire("a", first, 1) || !l.acquire("b", first, 1) {
		t.Fatal("a free endpoint has no slot")
	}
	if l.acquire("a", second, 1) || l.acquire("a", third, 1) {
		t.Fatal("a full endpoint has a slot")
	}
	l.release("a")
	if got := taken(l, second); !slices.Equal(got, []string{"a"}) || len(taken(l, third)) != 0 {
		t.Errorf("granted %v to the first who waits; want a, and nothing to the other", got)
	}
	<-second.bell
	if l.acquire("a", first, 1) {
		t.Error("a newcomer overtook who waits")
	}
	l.release("a")
	if got := taken(l, third); !slices.Equal(got, []string{"a"}) {
		t.Errorf("granted %v; want a", got)
	}
	l.release("a")
	l.leave(first, []string{"a"})
	l.release("b")
	if len(l.gates) != 0 {
		t.Errorf("gates = %v; want none", l.gates)
	}
}

// Who is first gets all it wants before the next one gets any, as many as come free.
func TestLimiterFirstGetsAll(t *testing.T) {
	t.Parallel()
	l := newLimiter(4, time.Now)
	holder, first, second := newWaiter(false), newWaiter(false), newWaiter(false)
	for range 4 {
		l.acquire("a", holder, 1)
	}
	l.acquire("a", first, 3)
	l.acquire("a", second, 2)
	l.release("a")
	l.release("a")
	if got, want := l.take(first), []grant{{endpoint: "a", slots: 2}}; !slices.Equal(got, want) {
		t.Errorf("granted %v; want %v", got, want)
	}
	l.release("a")
	l.release("a")
	if got, want := l.take(first), []grant{{endpoint: "a", slots: 1, last: true}}; !slices.Equal(got, want) {
		t.Errorf("granted %v; want %v", got, want)
	}
	if got, want := l.take(second), []grant{{endpoint: "a", slots: 1}}; !slices.Equal(got, want) {
		t.Errorf("then granted %v; want %v", got, want)
	}
	l.release("a")
	l.cancel("a", second) // it has one, was handed another and wants none
	for range 4 - 1 {
		l.release("a")
	}
	if len(l.gates) != 0 {
		t.Errorf("gates = %v; want none", l.gates)
	}
}

// What is not bulk work goes before it, but not always.
func TestLimiterBulkGivesWay(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, time.Now)
	holder, bulk, later, other := newWaiter(false), newWaiter(true), newWaiter(true), newWaiter(false)
	l.acquire("a", holder, 1)
	l.acquire("a", bulk, 8)
	l.acquire("a", later, 1)
	l.acquire("a", other, 8)
	for range 2 * bulkFloor {
		l.release("a")
	}
	got := []int{len(taken(l, other)), len(taken(l, bulk)), len(taken(l, later))}
	if want := []int{2*bulkFloor - 2, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("granted %v; want %v", got, want)
	}
}

// An endpoint whose limit is lifted has slots for all, and takes them back as they come.
func TestLimiterOpen(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, time.Now)
	holder, waiting := newWaiter(false), newWaiter(false)
	l.acquire("a", holder, 1)
	l.acquire("a", waiting, 3)
	l.open("a", time.Now().Add(time.Minute))
	if got, want := l.take(waiting), []grant{{endpoint: "a", slots: 1, last: true}}; !slices.Equal(got, want) {
		t.Errorf("granted %v; want %v", got, want)
	}
	for range 2 { // the rest of what it wanted
		if !l.acquire("a", waiting, 1) {
			t.Error("an endpoint without a limit has no slot")
		}
	}
	for range 4 {
		l.release("a")
	}
	if len(l.gates) != 0 {
		t.Errorf("gates = %v; want none", l.gates)
	}
}

// A slot that was handed to who leaves goes on to the next, not back to it.
func TestLimiterLeave(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, time.Now)
	holder, leaving, next := newWaiter(false), newWaiter(false), newWaiter(false)
	for _, endpoint := range []string{"a", "b"} {
		l.acquire(endpoint, holder, 1)
		l.acquire(endpoint, leaving, 1)
		l.acquire(endpoint, next, 1)
	}
	l.release("a")
	l.leave(leaving, []string{"a", "b"})
	if got := taken(l, next); !slices.Equal(got, []string{"a"}) {
		t.Errorf("granted %v; want a", got)
	}
	l.release("b")
	if got := taken(l, next); !slices.Equal(got, []string{"b"}) {
		t.Errorf("granted %v; want b", got)
	}
	if got := taken(l, leaving); len(got) != 0 {
		t.Errorf("who left was granted %v", got)
	}
	l.release("a")
	l.release("b")
	if len(l.gates) != 0 {
		t.Errorf("gates = %v; want none", l.gates)
	}
}

// Whatever the order of events, no endpoint exceeds its bound and no slot or
// waiter is forgotten.
func TestLimiterUnderLoad(t *testing.T) {
	t.Parallel()
	const limit, workers, rounds = 3, 16, 300
	l := newLimiter(limit, time.Now)
	endpoints := []string{"a", "b", "c"}
	var inFlight [3]atomic.Int64
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			w := newWaiter(i%2 == 0)
			for range rounds {
				i := rand.IntN(len(endpoints))
				use := func(slots int) {
					if n := inFlight[i].Add(int64(slots)); n > limit {
						t.Errorf("%d in flight; want at most %d", n, limit)
					}
					inFlight[i].Add(int64(-slots))
					for range slots {
						l.release(endpoints[i])
					}
				}
				want := 1 + rand.IntN(2*limit)
				if l.acquire(endpoints[i], w, want) {
					use(1)
					continue
				}
				for last := false; !last; {
					if rand.IntN(4) == 0 {
						l.leave(w, endpoints[i:i+1])
						select {
						case <-w.bell: // rung before leaving
						default:
						}
						break
					}
					<-w.bell
					for _, g := range l.take(w) {
						want, last = want-g.slots, g.last
						use(g.slots)
					}
					if last != (want == 0) {
						t.Errorf("%d slots are wanted still, the last one was granted: %t", want, last)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if len(l.gates) != 0 {
		t.Errorf("gates = %v; want none", l.gates)
	}
}

// Who has nothing left to send takes no slot from others, granted or not.
func TestLimiterCancel(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, time.Now)
	holder, leaving, next := newWaiter(false), newWaiter(false), newWaiter(false)
	for _, w := range []*waiter{holder, leaving, next} {
		l.acquire("a", w, 1)
		l.acquire("b", w, 1)
	}
	l.release("a")
	l.cancel("a", leaving) // granted already: it goes on to the next
	l.cancel("b", leaving) // not yet
	l.release("b")
	if got := taken(l, next); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("granted %v; want a and b", got)
	}
	if got := taken(l, leaving); len(got) != 0 {
		t.Errorf("who cancelled was granted %v", got)
	}
	l.release("a")
	l.release("b")
	if len(l.gates) != 0 {
		t.Errorf("gates = %v; want none", l.gates)
	}
}
