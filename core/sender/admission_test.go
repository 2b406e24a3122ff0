package sender

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core/egress"
)

func TestAdmissionIsInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(10)
		ctx := t.Context()
		if n := a.enter(ctx, 10, time.Hour, nil); n != 10 {
			t.Fatalf("enter(10) of 10 = %d", n)
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
		enter("small", 1)
		if len(order) != 0 {
			t.Fatalf("%v entered without room", order)
		}
		a.leave(1) // room for one: who is next begins, however large
		synctest.Wait()
		if len(order) != 1 || order[0] != "large" || a.free != -5 {
			t.Fatalf("%v entered, %d places free; want the first", order, a.free)
		}
		a.leave(6)
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

// One delivery that is held up must not keep out a bundle as large as all places
// together, or larger.
func TestSlowDeliveryKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.Concurrency, o.PerEndpoint = 2, 1 })
		slow, quick := f.endpoint(1), f.endpoint(2)
		f.poster.answer = func(r request) egress.Result {
			if strings.Contains(r.target.Origin(), "e1.") {
				time.Sleep(15 * time.Second)
			}
			return egress.Result{Status: 200}
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := f.Handle(t.Context(), f.bundle(slow)); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		start := time.Now()
		if err := f.Handle(t.Context(), f.bundle(repeat(quick, 100)...)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("100 quick deliveries took %v beside a slow one", took)
		}
		wg.Wait()
		f.checkIdle()
	})
}

// Who stops waiting takes no place and holds up nobody.
func TestAdmissionEnds(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"lease", "limit", "drain"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAdmission(4)
				a.enter(t.Context(), 4, time.Hour, nil)
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
				a.leave(1)
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

// Under races no place is lost, and nobody begins without room.
func TestAdmissionUnderRaces(t *testing.T) {
	t.Parallel()
	const most, largest = 16, 12
	a := newAdmission(most)
	var under atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				ctx, cancel := context.WithTimeout(context.Background(), rand.N(2*time.Millisecond))
				n := a.enter(ctx, 1+rand.IntN(largest), time.Hour, nil)
				if now := under.Add(int64(n)); now >= most+largest {
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
