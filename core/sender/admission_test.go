package sender

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAdmissionIsInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(10)
		ctx := t.Context()
		if n := a.enter(ctx, 8, time.Hour, nil); n != 8 {
			t.Fatalf("enter(8) of 10 = %d", n)
		}
		var order []string
		var mu sync.Mutex
		enter := func(name string, deliveries int) {
			go func() {
				a.enter(ctx, deliveries, time.Hour, nil)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
			}()
			synctest.Wait()
		}
		enter("large", 6)
		enter("small", 1) // there is room for it, but it came later
		if len(order) != 0 {
			t.Fatalf("%v entered", order)
		}
		a.leave(3)
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("%v entered with 5 places free", order)
		}
		a.leave(2)
		synctest.Wait()
		if len(order) != 2 || a.free != 0 {
			t.Fatalf("%v entered, %d places free; want both", order, a.free)
		}
		a.leave(10)
		if a.free != a.most || len(a.waiting) != 0 {
			t.Errorf("%d of %d places free, %d waiting", a.free, a.most, len(a.waiting))
		}
	})
}

// A bundle that is larger than all places enters alone.
func TestAdmissionOfAGiant(t *testing.T) {
	t.Parallel()
	a := newAdmission(4)
	if n := a.enter(t.Context(), 256, time.Hour, nil); n != 4 {
		t.Errorf("enter(256) of 4 = %d, want 4", n)
	}
}

// Who stops waiting takes no place and holds up nobody.
func TestAdmissionEnds(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"lease", "limit", "drain"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAdmission(4)
				a.enter(t.Context(), 3, time.Hour, nil)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				stop := make(chan struct{})
				limit := time.Hour
				if why == "limit" {
					limit = time.Second
				}
				gone, next := make(chan int, 1), make(chan int, 1)
				go func() { gone <- a.enter(ctx, 4, limit, stop) }()
				synctest.Wait()
				go func() { next <- a.enter(t.Context(), 1, time.Hour, nil) }()
				synctest.Wait()
				switch why {
				case "lease":
					cancel()
				case "drain":
					close(stop)
				}
				if n := <-gone; n != 0 {
					t.Errorf("who stopped waiting was given %d places", n)
				}
				if n := <-next; n != 1 {
					t.Errorf("the next was given %d places, want 1", n)
				}
				a.leave(4)
				if a.free != a.most {
					t.Errorf("%d of %d places free", a.free, a.most)
				}
			})
		})
	}
}

// Under races no place is lost and never are more taken than there are.
func TestAdmissionUnderRaces(t *testing.T) {
	t.Parallel()
	a := newAdmission(16)
	var under atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				ctx, cancel := context.WithTimeout(context.Background(), rand.N(2*time.Millisecond))
				n := a.enter(ctx, 1+rand.IntN(12), time.Hour, nil)
				if now := under.Add(int64(n)); now > 16 {
					t.Errorf("%d deliveries under way", now)
				}
				under.Add(-int64(n))
				for range n { // one by one, as a bundle does
					a.leave(1)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if a.free != a.most || len(a.waiting) != 0 {
		t.Errorf("%d of %d places free, %d waiting", a.free, a.most, len(a.waiting))
	}
}
