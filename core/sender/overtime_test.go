package sender

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// An attempt that takes long leaves its slot and its place in the admission to
// others, until the places for such attempts are taken.
func TestOvertime(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 3} { // in the bundle's own goroutine, and in others
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, func(o *Options) { o.Concurrency, o.PerEndpoint = 1, 1 })
			stop := f.start()
			f.poster.answer = func(request) egress.Result {
				time.Sleep(900 * time.Millisecond) // not yet slow
				return egress.Result{Status: 200}
			}
			begin := time.Now()
			var wg sync.WaitGroup
			var refs []core.EndpointRef
			for i := range 2 * overtimePerSlot * size {
				refs = append(refs, f.endpoint(i))
			}
			for some := range slices.Chunk(refs, size) {
				wg.Go(func() {
					if err := f.Handle(context.Background(), f.bundle(some...)); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(900 * time.Millisecond)
			synctest.Wait()
			if n := len(f.poster.all()); n < overtimePerSlot || n > overtimePerSlot+2 {
				t.Errorf("%d attempts began; want %d in overtime, and one that holds the slot", n, overtimePerSlot)
			}
			if n := f.slots.inUse(); n != 1 {
				t.Errorf("%d slots in use; want the one there is", n)
			}
			wg.Wait()
			last := time.Since(begin)
			if n := len(f.poster.all()); n != 2*overtimePerSlot*size {
				t.Errorf("%d requests; want %d", n, 2*overtimePerSlot*size)
			}
			// One at a time they would take 900 ms each.
			if limit := time.Duration(size*2*overtimePerSlot) * 900 * time.Millisecond / 3; last > limit {
				t.Errorf("all took %v; want less than %v", last, limit)
			}
			stop()
			f.checkIdle()
			if free := f.admission.free; free != f.admission.most {
				t.Errorf("%d places are free in the admission; want %d", free, f.admission.most)
			}
		})
	}
}
