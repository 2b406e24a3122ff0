package sender

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
)

func TestRecordIsReadAgainAfterItsLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		get := func(want int) *record {
			t.Helper()
			rec, err := f.records.get(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if n := f.store.readCount(); n != want {
				t.Errorf("%d reads; want %d", n, want)
			}
			return rec
		}
		first := get(1)
		time.Sleep(core.RecordLifetime - time.Nanosecond)
		if get(1) != first {
			t.Error("another record without a read")
		}
		time.Sleep(time.Nanosecond)
		second := get(2)
		if second.target != first.target || second.keys[0].signer != first.keys[0].signer {
			t.Error("what had not changed was made anew")
		}
		f.store.delete(ref)
		time.Sleep(core.RecordLifetime)
		if get(3).endpoint != nil {
			t.Error("the deleted endpoint has a record")
		}
		get(3) // that there is none is known too
	})
}

// The lifetime counts from before the read, not from its end.
func TestRecordAgeCountsFromTheBeginOfTheRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		delay := 150 * time.Millisecond
		f.store.recordsFunc = func(context.Context, []core.EndpointRef) error {
			time.Sleep(delay)
			return nil
		}
		if _, err := f.records.get(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		if f.records.cached(ref, f.records.now()) != nil {
			t.Error("a record of 200 ms is taken for fresh")
		}
		delay = core.RecordLifetime
		if _, err := f.records.get(t.Context(), ref); !errors.Is(err, errStaleRecord) {
			t.Errorf("get = %v; want errStaleRecord", err)
		}
	})
}

func TestReadersShareReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.store.recordsFunc = func(context.Context, []core.EndpointRef) error {
			time.Sleep(10 * time.Millisecond)
			return nil
		}
		refs := make([]core.EndpointRef, 8)
		for i := range refs {
			refs[i] = f.endpoint(i)
		}
		var wg sync.WaitGroup
		for i := range 400 {
			wg.Go(func() {
				rec, err := f.records.get(t.Context(), refs[i%len(refs)])
				if err != nil || rec.endpoint.ID != refs[i%len(refs)].ID {
					t.Errorf("get = %+v, %v", rec, err)
				}
			})
		}
		wg.Wait()
		if n := f.store.readCount(); n > maxReads+1 {
			t.Errorf("%d reads; want at most %d", n, maxReads+1)
		}
	})
}

func TestReaderDoesNotWaitBeyondItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.recordsFunc = func(context.Context, []core.EndpointRef) error {
			time.Sleep(time.Second)
			return nil
		}
		var wg sync.WaitGroup
		for range maxReads + 1 { // the last one leads the next read
			wg.Go(func() { f.records.get(t.Context(), ref) })
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := f.records.get(ctx, ref); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get = %v; want the end of the context", err)
		}
		wg.Wait()
	})
}

// A read that hangs ends by itself and is not ended by who began it.
func TestReadIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.store.recordsFunc = func(ctx context.Context, _ []core.EndpointRef) error {
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := f.records.get(ctx, f.endpoint(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get = %v", err)
		}
		if took := time.Since(start); took != readTimeout {
			t.Errorf("the read took %v; want %v", took, readTimeout)
		}
	})
}

// Of two reads that overlap, the one that began later counts, in whatever order
// they end.
func TestYoungerReadStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.answerFunc = func(endpoints []*core.Endpoint) {
			if endpoints[0] != nil {
				time.Sleep(100 * time.Millisecond) // the answer is on its way for long
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if rec, err := f.records.get(t.Context(), ref); err != nil || rec.endpoint == nil {
				t.Errorf("the older read = %+v, %v; want a record", rec, err)
			}
		})
		time.Sleep(50 * time.Millisecond)
		f.store.delete(ref)
		if rec, err := f.records.get(t.Context(), ref); err != nil || rec.endpoint != nil {
			t.Errorf("the younger read = %+v, %v; want none", rec, err)
		}
		wg.Wait()
		if rec := f.records.cached(ref, f.records.now()); rec == nil || rec.endpoint != nil {
			t.Errorf("known is %+v; want that there is none", rec)
		}
	})
}

func TestPrefetchReadsOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		refs := []core.EndpointRef{f.endpoint(1), f.endpoint(2), f.endpoint(3)}
		var asked [][]core.EndpointRef
		f.store.recordsFunc = func(_ context.Context, refs []core.EndpointRef) error {
			asked = append(asked, refs)
			return nil
		}
		for _, n := range []int{1, 3, 3} {
			if err := f.records.prefetch(t.Context(), refs[:n]); err != nil {
				t.Fatal(err)
			}
		}
		if len(asked) != 2 || len(asked[0]) != 1 || len(asked[1]) != 2 {
			t.Errorf("asked for %v; want one, then the other two", asked)
		}
	})
}

// TestRecordsOfAll: a record for each, whether it was known, is read or has aged while
// others were read; none that is out of date.
func TestRecordsOfAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		a, b, gone := f.endpoint(1), f.endpoint(2), f.endpoint(3)
		f.store.delete(gone)
		var took time.Duration
		reads := 0
		f.store.recordsFunc = func(context.Context, []core.EndpointRef) error {
			reads++
			time.Sleep(took)
			return nil
		}
		all := func(want int, refs ...core.EndpointRef) {
			t.Helper()
			reads = 0
			records, err := f.records.all(t.Context(), refs)
			if err != nil {
				t.Fatal(err)
			}
			for i, ref := range refs {
				rec := records[i]
				if !rec.fresh(f.records.now()) || (rec.endpoint == nil) != (ref == gone) || ref != gone && rec.endpoint.Ref() != ref {
					t.Errorf("record %d of %v: %+v", i, ref, rec)
				}
			}
			if reads != want {
				t.Errorf("%d reads, want %d", reads, want)
			}
		}
		all(1, a, a, gone, a)
		all(1, a, b, b, a, gone)
		all(0, b, a)
		time.Sleep(core.RecordLifetime - 10*time.Millisecond)
		took = 50 * time.Millisecond
		all(2, a, a, f.endpoint(4), a) // that of a ages while the other is read
		took = core.RecordLifetime
		if _, err := f.records.all(t.Context(), []core.EndpointRef{f.endpoint(5)}); err != errStaleRecord {
			t.Errorf("of a read that took too long: %v, want %v", err, errStaleRecord)
		}
	})
}

func TestURLThatCannotBeSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.URL = "ftp://example.com/" })
		if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
			t.Fatal(err)
		}
		if rows := f.store.rows(); len(rows) != 1 || rows[0].Reason != core.ReasonBlocked || rows[0].Status != core.StatusRetrying {
			t.Errorf("rows = %+v; want one, blocked", rows)
		}
		f.checkMarked(1)
	})
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newCache[int, int](10)
	for i := range 1000 {
		c.put(i, i)
		if v, ok := c.get(0); i < 1000 && (!ok || v != 0) {
			t.Fatalf("what is used all the time was forgotten after %d", i)
		}
		if c.size() > 10 {
			t.Fatalf("%d entries; want at most 10", c.size())
		}
	}
	if _, ok := c.get(1); ok {
		t.Error("what was not used is still there")
	}
	c.remove(0)
	if _, ok := c.get(0); ok {
		t.Error("what was removed is still there")
	}
}

func TestReminder(t *testing.T) {
	t.Parallel()
	r := newReminder()
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		endpoint string
		after    time.Duration
		want     bool
	}{{"a", 0, true}, {"a", time.Second, false}, {"b", time.Second, true}, {"a", remindEvery, true}, {"a", remindEvery + 1, false}} {
		if got := r.allow(tt.endpoint, now.Add(tt.after)); got != tt.want {
			t.Errorf("allow(%s) after %v = %t; want %t", tt.endpoint, tt.after, got, tt.want)
		}
	}
}

// An event that was accepted for an endpoint after it was enabled must not die
// of a record read before.
func TestDisabledRecordMustBeYoungerThanEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		enable := func(enabled bool) {
			e := f.store.endpoints[ref]
			e.Enabled = enabled
			f.store.endpoints[ref] = e
		}
		enable(false)
		old := f.bundle(ref)
		time.Sleep(time.Minute)
		if err := f.Handle(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		if len(f.store.dead) != 1 || f.store.reads != 1 {
			t.Fatalf("%d dead letters after %d reads; want one each for a disabled endpoint", len(f.store.dead), f.store.reads)
		}
		enable(true)
		time.Sleep(10 * time.Millisecond) // the record that says "disabled" is still fresh
		fresh := f.bundle(ref)
		fresh.Deliveries[0].ID = "whd_fresh"
		if err := f.Handle(t.Context(), fresh); err != nil {
			t.Fatal(err)
		}
		if len(f.store.dead) != 1 || len(f.poster.all()) != 1 {
			t.Errorf("%d dead letters, %d requests; want the event delivered", len(f.store.dead), len(f.poster.all()))
		}
	})
}
