package sender

import (
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// goroutine returns the name of the one that calls it.
func goroutine() string {
	var buf [64]byte
	name, _, _ := strings.Cut(string(buf[:runtime.Stack(buf[:], false)]), " [")
	return name
}

// TestFewWorkForMany: goroutines go on with what comes next, of other endpoints and of
// other bundles, and none is left when there is nothing more to do.
func TestFewWorkForMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots, bundles, endpoints = 4, 5, 40
		f := newFixture(t, func(o *Options) { o.Concurrency = slots })
		var refs []core.EndpointRef
		for n := range endpoints {
			refs = append(refs, f.endpoint(n))
		}
		var mu sync.Mutex
		workers := make(map[string]int)
		f.poster.answer = func(request) egress.Result {
			mu.Lock()
			workers[goroutine()]++
			mu.Unlock()
			time.Sleep(time.Millisecond)
			return egress.Result{Status: 200}
		}
		var wg sync.WaitGroup
		for range bundles {
			wg.Go(func() {
				if err := f.Handle(t.Context(), f.bundle(refs...)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		total := 0
		for _, n := range workers {
			total += n
		}
		// One that has handed in its result may not wait yet when the next one begins.
		if total != bundles*endpoints || len(workers) > total/4 {
			t.Errorf("%d goroutines for %d attempts, want few for %d", len(workers), total, bundles*endpoints)
		}
		f.checkIdle()
	})
}

// TestPanicOfALoop: its bundle comes back, so its workers begin nothing more, and nobody
// waits for longer than for what they have in hand.
func TestPanicOfALoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots, answer = 4, time.Second
		f := newFixture(t, func(o *Options) {
			o.Concurrency = slots
			o.Now = func() time.Time {
				if strings.Contains(string(debug.Stack()), "(*run).wait(") { // all slots are taken
					panic("in the loop")
				}
				return time.Now()
			}
		})
		f.poster.answer = func(request) egress.Result {
			time.Sleep(answer)
			return egress.Result{Status: 200}
		}
		b := f.bundle(repeat(f.endpoint(1), 40)...)
		began := time.Now()
		func() {
			defer func() {
				if p := recover(); p != "in the loop" {
					t.Errorf("Handle ended with %v, want the panic", p)
				}
			}()
			t.Errorf("Handle returned %v", f.Handle(t.Context(), b))
		}()
		if took, n := time.Since(began), len(f.poster.all()); took != answer || n != slots {
			t.Errorf("it took %v and %d requests, want %v and %d", took, n, answer, slots)
		}
		f.checkIdle()
	})
}
