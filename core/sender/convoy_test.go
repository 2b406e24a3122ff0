package sender

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
)

// numbered returns bundle n, of as many deliveries.
func (f *fixture) numbered(n, deliveries int, ref core.EndpointRef) *core.Bundle {
	b := f.bundle(slices.Repeat([]core.EndpointRef{ref}, deliveries)...)
	b.ID, b.Mark.DoneKey = fmt.Sprintf("bundle-%d", n), fmt.Sprintf("done-%d", n)
	for i := range b.Deliveries {
		b.Deliveries[i].ID = fmt.Sprintf("whd_%03d_%03d", n, i)
	}
	return b
}

// handleAll handles n bundles of two deliveries each, which begin 1 ms apart.
func (f *fixture) handleAll(n int) []handled {
	ref, all := f.endpoint(1), make([]handled, n)
	var wg sync.WaitGroup
	for i := range n {
		b := f.numbered(i, 2, ref)
		wg.Go(func() {
			began := time.Now()
			err := f.Handle(f.t.Context(), b)
			all[i] = handled{err, b.Ended, time.Since(began)}
		})
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	return all
}

// TestBundlesAreRecordedTogether: what comes while a write is under way is written next,
// together, and nothing waits for anything else.
func TestBundlesAreRecordedTogether(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		bundles int
		write   time.Duration
		records []int // how many bundles each speaks of
	}{
		{"Redis is fast", 3, 0, []int{1, 1, 1}},
		{"Redis is slower than the bundles come", 7, 3500 * time.Microsecond, []int{1, 3, 3}},
		{"more than one write serves", 2 + partyRecords, 18 * time.Millisecond, []int{1, partyRecords, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				f.store.recordFunc = func(core.Record) error { time.Sleep(tt.write); return nil }
				for i, h := range f.handleAll(tt.bundles) {
					if most := time.Duration(len(tt.records)) * tt.write; h.err != nil || !h.ended || h.took > most {
						t.Errorf("bundle %d: %+v, want it ended within %v", i, h, most)
					}
				}
				var records []int
				for _, keys := range doneKeys(f.store.records) {
					records = append(records, len(keys))
				}
				if !slices.Equal(records, tt.records) {
					t.Errorf("records of %v bundles, want %v", records, tt.records)
				}
				if rows := len(f.store.rows()); rows != 2*tt.bundles {
					t.Errorf("%d rows, want %d", rows, 2*tt.bundles)
				}
				f.checkIdle()
			})
		})
	}
}

// TestRefusedOfOneOfManyBundles: what Redis refuses of one bundle keeps no other from
// being settled.
func TestRefusedOfOneOfManyBundles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.refuseOne("done-3", 5500*time.Microsecond)
		f.checkRefused(3, f.handleAll(6))
	})
}

// TestWriteThatHangs: nobody waits for it for long.
func TestWriteThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		var calls atomic.Int32
		f.store.recordFunc = func(core.Record) error {
			if calls.Add(1) == 1 {
				time.Sleep(time.Second)
			}
			return nil
		}
		for i, h := range f.handleAll(4) {
			if most := convoyPatience; h.err != nil || !h.ended || i > 0 && h.took > most {
				t.Errorf("bundle %d: %+v, want it ended within %v", i, h, most)
			}
		}
		if keys := doneKeys(f.store.records); len(keys) != 2 || len(keys[0]) != 3 {
			t.Errorf("records of %v, want of three bundles and then of the first", keys)
		}
	})
}

// TestNodesOfAClusterAreIndependent: what one of its nodes holds up holds up no bundle
// of others.
func TestNodesOfAClusterAreIndependent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.Store.(*stubStore).cluster = true })
		f.store.recordFunc = func(core.Record) error { time.Sleep(10 * time.Millisecond); return nil }
		f.handleAll(5)
		if keys := doneKeys(f.store.records); len(keys) != 5 {
			t.Errorf("records of %v, want one of each bundle", keys)
		}
	})
}
