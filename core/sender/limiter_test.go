package sender

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLimiterGrantsInTurn(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, time.Now)
	first, second, third := newWaiter(), newWaiter(), newWaiter()
	if !l.acquire("a", first) || !l.acquire("b", first) {
		t.Fatal("a free endpoint has no slot")
	}
	if l.acquire("a", second) || l.acquire("a", third) {
		t.Fatal("a full endpoint has a slot")
	}
	l.release("a")
	if got := l.take(second); !slices.Equal(got, []string{"a"}) || len(l.take(third)) != 0 {
		t.Errorf("granted %v to the first who waits; want a, and nothing to the other", got)
	}
	<-second.bell
	if l.acquire("a", first) {
		t.Error("a newcomer overtook who waits")
	}
	l.release("a")
	if got := l.take(third); !slices.Equal(got, []string{"a"}) {
		t.Errorf("granted %v; want a", got)
	}
	l.release("a")
	l.leave(first, []string{"a"})
	l.release("b")
	if len(l.gates) != 0 {
		t.Errorf("gates = %v; want none", l.gates)
	}
}

// A slot that was handed to who leaves goes on to the next, not back to it.
func TestLimiterLeave(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, time.Now)
	holder, leaving, next := newWaiter(), newWaiter(), newWaiter()
	for _, endpoint := range []string{"a", "b"} {
		l.acquire(endpoint, holder)
		l.acquire(endpoint, leaving)
		l.acquire(endpoint, next)
	}
	l.release("a")
	l.leave(leaving, []string{"a", "b"})
	if got := l.take(next); !slices.Equal(got, []string{"a"}) {
		t.Errorf("granted %v; want a", got)
	}
	l.release("b")
	if got := l.take(next); !slices.Equal(got, []string{"b"}) {
		t.Errorf("granted %v; want b", got)
	}
	if got := l.take(leaving); len(got) != 0 {
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
	for range workers {
		wg.Go(func() {
			w := newWaiter()
			for range rounds {
				i := rand.IntN(len(endpoints))
				if !l.acquire(endpoints[i], w) {
					if rand.IntN(4) == 0 {
						l.leave(w, endpoints[i:i+1])
						select {
						case <-w.bell: // rung before leaving
						default:
						}
						continue
					}
					<-w.bell
					if got := l.take(w); len(got) != 1 {
						t.Errorf("granted %v; want one", got)
						return
					}
				}
				if n := inFlight[i].Add(1); n > limit {
					t.Errorf("%d in flight; want at most %d", n, limit)
				}
				inFlight[i].Add(-1)
				l.release(endpoints[i])
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
	holder, leaving, next := newWaiter(), newWaiter(), newWaiter()
	for _, w := range []*waiter{holder, leaving, next} {
		l.acquire("a", w)
		l.acquire("b", w)
	}
	l.release("a")
	l.cancel("a", leaving) // granted already: it goes on to the next
	l.cancel("b", leaving) // not yet
	l.release("b")
	if got := l.take(next); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("granted %v; want a and b", got)
	}
	if got := l.take(leaving); len(got) != 0 {
		t.Errorf("who cancelled was granted %v", got)
	}
	l.release("a")
	l.release("b")
	if len(l.gates) != 0 {
		t.Errorf("gates = %v; want none", l.gates)
	}
}
