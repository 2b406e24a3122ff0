package sender

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// lone returns bundle n, of one delivery.
func (f *fixture) lone(n int, ref core.EndpointRef) *core.Bundle {
	b := f.bundle(ref)
	b.ID = fmt.Sprintf("bundle-%d", n)
	b.Mark.DoneKey, b.Mark.BlobKey = fmt.Sprintf("done-%d", n), ""
	b.Deliveries[0].ID = fmt.Sprintf("whd_%03d", n)
	return b
}

// handled is what became of a bundle.
type handled struct {
	err   error
	ended bool
	took  time.Duration
}

// handleEvery handles n bundles of one delivery each, of which one begins each every.
func (f *fixture) handleEvery(every time.Duration, n int) []handled {
	ref, all := f.endpoint(1), make([]handled, n)
	var wg sync.WaitGroup
	for i := range n {
		b := f.lone(i, ref)
		wg.Go(func() {
			began := time.Now()
			err := f.Handle(f.t.Context(), b)
			all[i] = handled{err, b.Ended, time.Since(began)}
		})
		time.Sleep(every)
	}
	wg.Wait()
	return all
}

// doneKeys returns the keys of the marks of each record.
func doneKeys(records []core.Record) (keys [][]string) {
	for _, r := range records {
		var of []string
		for _, m := range r.Marks {
			of = append(of, m.DoneKey)
		}
		keys = append(keys, of)
	}
	return keys
}

func TestLoneDeliveriesAreRecordedTogether(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		every   time.Duration
		bundles int
		records []int         // how many bundles each speaks of
		longest time.Duration // that one waits
	}{
		{"rarely", settleInterval, 3, []int{1, 1, 1}, 0},
		{"often", 20 * time.Millisecond, 7, []int{1, 3, 3}, settleInterval},
		{"at once", 0, 1 + 2*partyRecords, []int{1, partyRecords, partyRecords}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				for i, h := range f.handleEvery(tt.every, tt.bundles) {
					if h.err != nil || !h.ended || h.took > tt.longest {
						t.Errorf("bundle %d: %+v, want it ended within %v", i, h, tt.longest)
					}
				}
				var records []int
				var marked []string
				for _, keys := range doneKeys(f.store.records) {
					records, marked = append(records, len(keys)), append(marked, keys...)
				}
				slices.Sort(records)
				if !slices.Equal(records, tt.records) {
					t.Errorf("records of %v bundles, want %v", records, tt.records)
				}
				slices.Sort(marked)
				if rows := len(f.store.rows()); rows != tt.bundles || len(slices.Compact(marked)) != tt.bundles {
					t.Errorf("%d rows and %d marks, want %d", rows, len(marked), tt.bundles)
				}
				f.checkIdle()
			})
		})
	}
}

// TestManyLoneDeliveriesWaitForNobody: as many as a queue runs at a time, and one of
// them held up, are no slower than their records' parties fill.
func TestManyLoneDeliveriesWaitForNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.poster.answer = func(request) egress.Result {
			time.Sleep(2 * time.Millisecond)
			return egress.Result{Status: 200}
		}
		ref := f.endpoint(1)
		var wg sync.WaitGroup
		began := time.Now()
		for i := range 63 {
			wg.Go(func() {
				for n := range 20 {
					if err := f.Handle(t.Context(), f.lone(100*n+i, ref)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if took, most := time.Since(began), 400*time.Millisecond; took > most {
			t.Errorf("1,260 deliveries took %v, want %v at most", took, most)
		}
	})
}

// TestLargePayloadsAreNotKeptTogether: a record does not carry more payloads than Redis
// takes at once.
func TestLargePayloadsAreNotKeptTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.KeepDelivered = true })
		ref := f.endpoint(1)
		var wg sync.WaitGroup
		for i := range 7 {
			b := f.lone(i, ref)
			b.Deliveries[0].Event.Body = make([]byte, partyKept/2)
			wg.Go(func() {
				if err := f.Handle(t.Context(), b); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, r := range f.store.records {
			if len(r.Kept) > 2 {
				t.Errorf("a record keeps %d payloads of 2 MiB", len(r.Kept))
			}
		}
		if n := len(slices.Concat(doneKeys(f.store.records)...)); n != 7 {
			t.Errorf("%d marks, want 7", n)
		}
	})
}

// refuseOne makes Redis take that long to write a record, and refuse those with a mark
// under doneKey.
func (f *fixture) refuseOne(doneKey string, took time.Duration) {
	f.store.recordFunc = func(r core.Record) error {
		time.Sleep(took)
		if slices.ContainsFunc(r.Marks, func(m core.Mark) bool { return m.DoneKey == doneKey }) {
			return errDown
		}
		return nil
	}
}

// checkRefused fails unless all bundles but one are settled, each by itself once a record
// of several was refused.
func (f *fixture) checkRefused(one int, all []handled) {
	f.t.Helper()
	for i, h := range all {
		if ok := h.err == nil && h.ended; ok == (i == one) {
			f.t.Errorf("bundle %d: %+v", i, h)
		}
	}
	for _, r := range f.store.records[1:] {
		if len(r.Marks) != 1 || !r.Repeated {
			f.t.Errorf("after the refusal a record of %d bundles, repeated: %t", len(r.Marks), r.Repeated)
		}
	}
}

// TestRefusedOfOneBundle: what Redis refuses of one bundle keeps no other from being
// settled.
func TestRefusedOfOneBundle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.refuseOne("done-3", 0)
		f.checkRefused(3, f.handleEvery(10*time.Millisecond, 6))
	})
}

// TestDrainEndsTheWaitForCompany: who waits for company goes on when the process is to
// end, and so does who comes later.
func TestDrainEndsTheWaitForCompany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.poster.answer = func(request) egress.Result {
			time.Sleep(5 * time.Millisecond)
			return egress.Result{Status: 200}
		}
		var wg sync.WaitGroup
		began := time.Now()
		for i := range 3 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if err := f.Handle(t.Context(), f.lone(i, ref)); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(6500 * time.Microsecond) // two have been answered, one is under way
		f.Drain()
		wg.Wait()
		if took := time.Since(began); took != 7*time.Millisecond {
			t.Errorf("all is settled after %v, want 7ms", took)
		}
		if n := len(slices.Concat(doneKeys(f.store.records)...)); n != 3 {
			t.Errorf("%d marks, want 3", n)
		}
	})
}
