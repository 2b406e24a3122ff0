package sender

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// flood lets n bulk bundles of 20 deliveries each, for endpoints of their own,
// be handled until the returned function was called and they have ended.
func (f *fixture) flood(ctx context.Context, n int) (wait func()) {
	bundles := make([]*core.Bundle, n)
	for i := range bundles {
		bundles[i] = f.bundle(repeat(f.endpoint(100+i), 20)...)
		bundles[i].Bulk = true
	}
	var wg sync.WaitGroup
	for _, b := range bundles {
		wg.Go(func() {
			if err := f.Handle(ctx, b); err != nil {
				f.t.Error(err)
			}
		})
	}
	return wg.Wait
}

// However much bulk work there is, and however slow its receivers are, others
// begin at once; while none are about, bulk work has all slots.
func TestBulkGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots, slowness = 8, 2 * time.Second
		f := newFixture(t, func(o *Options) { o.Concurrency = slots })
		quick := f.endpoint(1)
		var bulk atomic.Int32
		f.poster.answer = func(r request) egress.Result {
			if !strings.Contains(r.target.Origin(), "e1.") {
				bulk.Add(1)
				defer bulk.Add(-1)
				time.Sleep(slowness)
			}
			return egress.Result{Status: 200}
		}
		inFlight := func() int32 {
			synctest.Wait() // other attempts may end and begin at the same moment
			return bulk.Load()
		}
		wait := f.flood(t.Context(), 100) // far more than are admitted at a time
		time.Sleep(3*slowness + time.Second)
		if n := inFlight(); n != slots {
			t.Errorf("bulk work alone has %d slots; want all %d", n, slots)
		}
		deliver := func(deliveries int) time.Duration {
			start := time.Now()
			if err := f.Handle(t.Context(), f.bundle(repeat(quick, deliveries)...)); err != nil {
				t.Error(err)
			}
			return time.Since(start)
		}
		if took := deliver(1); took > slowness {
			t.Errorf("the first of others took %v; want at most the %v of an attempt", took, slowness)
		}
		time.Sleep(slowness + time.Second) // between the ends of bulk attempts
		for i := range 5 {
			if n := inFlight(); n != slots-slots/bulkReserve {
				t.Errorf("with others about bulk work has %d slots; want %d", n, slots-slots/bulkReserve)
			}
			if took := deliver(1 + i*20); took != 0 {
				t.Errorf("delivery %d of others took %v; want nothing", i, took)
			}
			time.Sleep(slowness)
		}
		time.Sleep(othersTime + slowness)
		if n := inFlight(); n != slots {
			t.Errorf("alone again bulk work has %d slots; want all %d", n, slots)
		}
		wait()
		f.checkIdle()
		if f.admission.free != f.admission.most || f.bulk.free != f.bulk.most {
			t.Errorf("admissions: %d of %d and %d of %d places free", f.admission.free, f.admission.most, f.bulk.free, f.bulk.most)
		}
	})
}

// However many others there are, bulk work goes on.
func TestBulkKeepsItsFloor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(8)
		enter := func(bulk bool, n int) (entered *atomic.Int32) {
			entered = new(atomic.Int32)
			for range n {
				go func() {
					w := newSeat(bulk)
					if !s.tryEnter(bulk) {
						<-s.wait(w)
						if !s.endWait(w) {
							t.Error("no slot after the wait")
						}
					}
					entered.Add(1)
				}()
				synctest.Wait()
			}
			return entered
		}
		others := enter(false, 100)
		bulk := enter(true, 100)
		for range 20 {
			s.leave(false)
			synctest.Wait()
		}
		if o, b := others.Load(), bulk.Load(); b != 2 || o != 8+18 {
			t.Errorf("%d of bulk work and %d others entered; want 2, its floor, and 26", b, o)
		}
		s.leave(true) // goes to bulk work again
		synctest.Wait()
		if o, b := others.Load(), bulk.Load(); b != 3 || o != 26 {
			t.Errorf("%d of bulk work and %d others entered; want 3 and 26", b, o)
		}
		for s.inUse() > 0 {
			s.leave(s.bulk > 0)
			synctest.Wait()
		}
		if o, b := others.Load(), bulk.Load(); b != 100 || o != 100 || s.wanted() {
			t.Errorf("%d of bulk work and %d others entered, somebody waits: %t", b, o, s.wanted())
		}
	})
}

// Bulk work gives a slot back after a delivery when others wait, or when it has
// more than its part and others are about; others do not.
func TestOwed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(4)
		time.Sleep(othersTime)
		for i := range 4 {
			if !s.tryEnter(true) {
				t.Fatalf("slot %d is not free", i)
			}
		}
		check := func(when string, want bool) {
			t.Helper()
			if got := s.owed(true); got != want {
				t.Errorf("%s: owed %t", when, got)
			}
			if s.owed(false) {
				t.Errorf("%s: others owe a slot", when)
			}
		}
		check("alone", false)
		if s.tryEnter(false) {
			t.Fatal("a fifth slot of four")
		}
		check("others have come", true)
		w := newSeat(false)
		s.wait(w)
		check("others wait", true)
		s.leave(true)
		check("others have a slot, bulk work more than its part", true)
		s.leave(true)
		check("bulk work has its part", false)
		if !s.endWait(w) || s.wanted() {
			t.Error("the slot was not handed over")
		}
		s.leave(false)
		if s.tryEnter(true) {
			t.Error("bulk work took the reserve while others are about")
		}
		time.Sleep(othersTime)
		if !s.tryEnter(true) {
			t.Error("bulk work did not get the last slot although it is alone")
		}
		check("alone again", false)
	})
}

// Under races no slot is lost or given twice.
func TestSlotsUnderRaces(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2, 7} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			s := newSlots(most)
			var inside atomic.Int32
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					bulk := i%2 == 0
					w := newSeat(bulk)
					for range 300 {
						if !s.tryEnter(bulk) {
							ready := s.wait(w)
							if rand.IntN(4) > 0 {
								<-ready
							}
							if !s.endWait(w) {
								continue
							}
						}
						if n := inside.Add(1); int(n) > most {
							t.Errorf("%d inside", n)
						}
						inside.Add(-1)
						s.leave(bulk)
					}
				})
			}
			wg.Wait()
			if s.taken != 0 || s.bulk != 0 || s.wanted() || len(s.queue)+len(s.bulks) != 0 {
				t.Errorf("left over: %d taken, %d of these bulk, %d waiting", s.taken, s.bulk, s.waiting.Load())
			}
		})
	}
}
