package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// bulk returns n deliveries of an event that belong in the bulk queue.
func bulk(e *core.Event, n int) []core.Delivery {
	ds := fanOut(e, n)
	for i := range ds {
		ds[i].Bulk = true
	}
	return ds
}

// TestBulk: one call stores both classes, each in its queue and in bundles of its
// own; the handler is told of it, a bundle that is put back stays in the bulk
// queue, and a retry forgets it.
func TestBulk(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	p := f.producer()
	ds := append(fanOut(event("evt_1", 0), 20), bulk(event("evt_2", 0), 2*maxBundleDeliveries)...)
	if errs := p.Enqueue(ctx, append(ds, bulk(event("evt_3", 0), 1)...)); errs != nil {
		t.Fatal(errs)
	}
	want := []QueueStats{{Queue: "deliver-00", Pending: 1}, {Queue: retryQueue}, {Queue: bulkQueue, Pending: 2}}
	if diff := cmp.Diff(want, f.allStats()); diff != "" {
		t.Fatalf("queues (-want +got):\n%s", diff)
	}
	var mu sync.Mutex
	seen := make(map[string]int)
	var once sync.Once
	f.consume(func(ctx context.Context, b *core.Bundle) error {
		class := "normal"
		if b.Bulk {
			class = "bulk"
		}
		if slices.ContainsFunc(b.Deliveries, func(d core.Delivery) bool { return d.Bulk != b.Bulk }) || b.Bulk != (b.Queue == bulkQueue) {
			t.Errorf("bundle of queue %s: bulk %t, its deliveries say otherwise", b.Queue, b.Bulk)
		}
		back := false
		if len(b.Deliveries) == maxBundleDeliveries {
			once.Do(func() { back = true })
		}
		if back { // the first of the large ones goes on as a fresh bundle, and one of it as a retry
			if err := p.Defer(ctx, b.Deliveries[1:], time.Time{}); err != nil {
				return err
			}
			retry := b.Deliveries[0]
			retry.Attempts = 1
			if errs := p.Retry(ctx, []core.Delivery{retry}); errs != nil {
				return errs[0]
			}
		}
		f.settleAll(b.Mark)
		if !back {
			mu.Lock()
			defer mu.Unlock()
			seen[class] += len(b.Deliveries)
		}
		return nil
	})
	seenAll := func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return map[string]int{"normal": seen["normal"], "bulk": seen["bulk"]}
	}
	all := map[string]int{"normal": 20 + 1, "bulk": 2*maxBundleDeliveries - 1 + 1}
	until(t, "all deliveries", func() bool { return cmp.Equal(all, seenAll()) })
	until(t, "queues empty", func() bool {
		return !slices.ContainsFunc(f.allStats(), func(s QueueStats) bool { return s != QueueStats{Queue: s.Queue} })
	})
	f.empty()
}

// TestBulkSurvives: a bundle whose handler fails is run again as what it was.
func TestBulkSurvives(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if errs := f.producer().Enqueue(t.Context(), bulk(event("evt_1", 0), 20)); errs != nil {
		t.Fatal(errs)
	}
	runs := make(chan bool, 2)
	var failed atomic.Bool
	f.consume(func(_ context.Context, b *core.Bundle) error {
		defer func() { runs <- b.Bulk }()
		if failed.CompareAndSwap(false, true) {
			return errors.New("a failure")
		}
		f.settleAll(b.Mark)
		return nil
	})
	if !receive(t, "the first run", runs) {
		t.Error("the first run is not bulk")
	}
	until(t, "put back", func() bool { return f.allStats()[2].Retry == 1 })
	f.hurry(bulkQueue)
	if !receive(t, "the second run", runs) {
		t.Error("the second run is not bulk")
	}
	until(t, "task done", func() bool { s := f.allStats()[2]; return s.Active+s.Retry == 0 })
	f.empty()
}
