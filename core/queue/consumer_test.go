package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// collect returns a handler that settles every bundle and shows it on a channel.
func (f *fixture) collect() (Handler, <-chan *core.Bundle) {
	bundles := make(chan *core.Bundle, 100)
	return func(_ context.Context, b *core.Bundle) error {
		f.settleAll(b.Mark)
		bundles <- b
		return nil
	}, bundles
}

func (f *fixture) roundTrip() {
	t := f.t
	t.Helper()
	handler, bundles := f.collect()
	f.consume(func(ctx context.Context, b *core.Bundle) error {
		if f.end(b) != 0 {
			t.Error("a task has ended without its mark")
		}
		f.settleAll(b.Mark)
		b.Ended = f.end(b) == 1
		return handler(ctx, b)
	})
	p := f.producer()
	ctx := context.Background()

	many, one, retry := fanOut(event("evt_1", 0), 20), fanOut(event("evt_2", 0), 1), fanOut(event("evt_3", 0), 1)
	retry[0].Attempts, retry[0].Due = 2, time.Now().Truncate(time.Millisecond).UTC()
	if errs := p.Enqueue(ctx, many); errs != nil {
		t.Fatal(errs)
	}
	if errs := p.Enqueue(ctx, one); errs != nil {
		t.Fatal(errs)
	}
	if errs := p.Retry(ctx, retry); errs != nil {
		t.Fatal(errs)
	}
	for range 3 {
		b := receive(t, "bundle", bundles)
		want, queue, blob, ttl := many, "deliver-00", blobKey("deliver-00", b.ID), 2*time.Hour
		if len(b.Deliveries) == 1 {
			want, blob, ttl = one, "", 5*time.Minute
			if b.Deliveries[0].Attempts > 0 {
				want, queue = retry, "retry-00"
			}
		}
		mark := core.Mark{DoneKey: "sp:{" + queue + "}:bundle:" + b.ID + ":done", BlobKey: blob, Size: len(want), TTL: ttl, End: b.Mark.End}
		if diff := cmp.Diff(&core.Bundle{ID: b.ID, Queue: queue, Deliveries: want, Settled: make([]bool, len(want)), Mark: mark, Ended: true}, b); diff != "" {
			t.Errorf("bundle (-want +got):\n%s", diff)
		}
	}
	until(t, "all tasks done", func() bool {
		d, r := f.stats()
		return d.Pending+d.Active+r.Pending+r.Active+r.Scheduled == 0
	})
	f.empty()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.roundTrip()
	lint(t, f.registry)
}

// TestRoundTripOnMiniredis holds what the development mode without a
// redis-server stands on.
func TestRoundTripOnMiniredis(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	f := setupWith(t, client)
	f.roundTrip()
	c, err := NewConsumer(ConsumerOptions{Options: f.options(), Handler: func(context.Context, *core.Bundle) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.reconcileAll(context.Background()); err != nil {
		t.Errorf("reconcile: %v", err)
	}
	f.takesOver(c)
}

// TestRoundTripOnCluster proves that what travels together lives in one slot. A
// single node with all slots refuses the rest as well.
func TestRoundTripOnCluster(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("cluster-enabled", "yes"))
	if err := server.Client(t).ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr()}, DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	until(t, "cluster", func() bool { return client.Set(context.Background(), "k", "v", 0).Err() == nil })
	f := setupWith(t, client)
	f.roundTrip()
	c, err := NewConsumer(ConsumerOptions{Options: f.options(), Handler: func(context.Context, *core.Bundle) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.reconcileAll(context.Background()); err != nil {
		t.Errorf("reconcile: %v", err)
	}
	f.takesOver(c)
}

// deferSoon stores a bundle that runs from the retry queue, where tasks that are
// put back return soonest.
func (f *fixture) deferSoon(ds []core.Delivery) {
	f.t.Helper()
	if err := f.producer().Defer(context.Background(), ds, time.Now().Add(time.Second)); err != nil {
		f.t.Fatal(err)
	}
}

func TestRerunSkipsSettled(t *testing.T) {
	t.Parallel()
	f := setup(t)
	runs := make(chan *core.Bundle, 10)
	first := true
	f.consume(func(_ context.Context, b *core.Bundle) error {
		runs <- b
		if first {
			first = false
			f.settle(b.Mark, 0, 2, 9)
			return errors.New("lost the way")
		}
		f.settleAll(b.Mark)
		return nil
	})
	f.deferSoon(fanOut(event("evt_1", 0), 10))
	a, b := receive(t, "first run", runs), receive(t, "second run", runs)
	if diff := cmp.Diff(make([]bool, 10), a.Settled); diff != "" {
		t.Errorf("settled before the first run (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]bool{true, false, true, false, false, false, false, false, false, true}, b.Settled); diff != "" {
		t.Errorf("settled before the second run (-want +got):\n%s", diff)
	}
	if a.ID != b.ID || !cmp.Equal(a.Deliveries, b.Deliveries) {
		t.Error("the second run has another bundle")
	}
	until(t, "task done", func() bool { _, r := f.stats(); return r.Active+r.Retry == 0 })
	f.empty()
	if got := f.counter("sealpost_bundles_put_back_total", "handler"); got != 1 {
		t.Errorf("%v bundles put back; want 1", got)
	}
	if !strings.Contains(f.log.String(), "lost the way") {
		t.Error("the handler's error is not in the log")
	}
}

// TestSettledBundleEndsSilently is the second run of a bundle whose sender died
// between settling it and the end of its task.
func TestSettledBundleEndsSilently(t *testing.T) {
	t.Parallel()
	for _, deliveries := range []int{1, 20} {
		f := setup(t)
		bundles := make(chan *core.Bundle, 10)
		f.consume(func(_ context.Context, b *core.Bundle) error {
			bundles <- b
			f.settleAll(b.Mark)
			return errors.New("died on the last step")
		})
		f.deferSoon(fanOut(event("evt_1", 0), deliveries))
		until(t, "task done", func() bool { return f.counter("sealpost_bundles_already_settled_total") == 1 })
		until(t, "queue empty", func() bool { d, _ := f.stats(); return d.Active == 0 })
		f.empty()
		if len(bundles) != 1 || f.counter("sealpost_bundles_lost_total") != 0 {
			t.Errorf("%d deliveries: ran %d times, %v lost; want one run and no loss", deliveries, len(bundles), f.counter("sealpost_bundles_lost_total"))
		}
	}
}

func TestMissingBlobIsAnAlarm(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 20)); errs != nil {
		t.Fatal(errs)
	}
	id := f.pendingBundle("deliver-00")
	f.settle(core.Mark{DoneKey: doneKey("deliver-00", id), Size: 20}, 3)
	if err := f.client.Del(t.Context(), blobKey("deliver-00", id)).Err(); err != nil {
		t.Fatal(err)
	}
	handler, bundles := f.collect()
	f.consume(handler)
	until(t, "alarm", func() bool {
		f.hurry("deliver-00")
		return f.counter("sealpost_bundles_lost_total") == 1
	})
	until(t, "queue empty", func() bool { d, _ := f.stats(); return d.Active == 0 })
	f.empty()
	if n := f.counter("sealpost_bundles_put_back_total", "redis"); n != missingRuns {
		t.Errorf("put back %v times before the alarm; want %d", n, missingRuns)
	}
	if log := f.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, id) || !strings.Contains(log, "unsettled=19") {
		t.Errorf("no alarm in the log:\n%s", log)
	}
	if len(bundles) != 0 {
		t.Error("the handler ran")
	}
}

// A Redis that is nearly full may take a task and refuse its blob. Who enqueued
// it repeats that, meets its own task, and stores the blob then.
func TestBlobThatComesLaterIsFound(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ds := fanOut(event("evt_1", 0), 20)
	if errs := f.producer().Enqueue(t.Context(), ds); errs != nil {
		t.Fatal(errs)
	}
	key := blobKey("deliver-00", f.pendingBundle("deliver-00"))
	if err := f.client.Rename(t.Context(), key, key+":kept").Err(); err != nil {
		t.Fatal(err)
	}
	handler, bundles := f.collect()
	f.consume(handler)
	until(t, "put back", func() bool { return f.counter("sealpost_bundles_put_back_total", "redis") == 1 })
	if err := f.client.Rename(t.Context(), key+":kept", key).Err(); err != nil {
		t.Fatal(err)
	}
	f.hurry("deliver-00")
	if b := receive(t, "bundle", bundles); len(b.Deliveries) != 20 {
		t.Errorf("%d deliveries; want 20", len(b.Deliveries))
	}
	until(t, "task done", func() bool { d, _ := f.stats(); return d.Active == 0 })
	if n := f.counter("sealpost_bundles_lost_total"); n != 0 {
		t.Errorf("%v bundles lost", n)
	}
}

func TestUndecodableIsPutBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	ds := fanOut(event("evt_1", 0), 20)
	if errs := f.producer().Enqueue(ctx, ds); errs != nil {
		t.Fatal(errs)
	}
	id := f.pendingBundle("deliver-00")
	key := blobKey("deliver-00", id)
	blob := f.client.Get(ctx, key).Val()
	newer := "\x03" + blob[1:]
	if err := f.client.Set(ctx, key, newer, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	handler, bundles := f.collect()
	f.consume(handler)
	until(t, "put back", func() bool { d, _ := f.stats(); return d.Retry == 1 })
	if f.counter("sealpost_bundles_undecodable_total") != 1 || !strings.Contains(f.log.String(), "level=ERROR") {
		t.Errorf("no alarm; log:\n%s", f.log)
	}
	back := time.Unix(int64(f.client.ZScore(ctx, asynqKey("deliver-00", retrySuffix), id).Val()), 0)
	if wait := time.Until(back); wait < 30*time.Second {
		t.Errorf("comes back in %v; want a minute", wait)
	}
	if got := f.client.Get(ctx, key).Val(); got != newer {
		t.Error("the blob was changed")
	}
	// An update of the sender can read it.
	f.client.Set(ctx, key, blob, time.Hour)
	f.hurry("deliver-00")
	if b := receive(t, "readable bundle", bundles); !cmp.Equal(ds, b.Deliveries) {
		t.Error("the bundle is another one")
	}
}

// TestNothingIsArchived lets handlers fail and panic far more often than asynq's
// defaults allow.
func TestNothingIsArchived(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const failures = 30
	var mu sync.Mutex
	runs := 0
	done := make(chan struct{})
	f.consume(func(_ context.Context, b *core.Bundle) error {
		mu.Lock()
		runs++
		n := runs
		mu.Unlock()
		switch {
		case n > failures:
			f.settleAll(b.Mark)
			close(done)
			return nil
		case n%2 == 0:
			panic("a mistake")
		default:
			return errors.New("a failure")
		}
	})
	if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 1)); errs != nil {
		t.Fatal(errs)
	}
	until(t, "success", func() bool {
		f.hurry("deliver-00")
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	until(t, "task done", func() bool { d, _ := f.stats(); return d.Active+d.Retry == 0 })
	f.empty()
	if h, p := f.counter("sealpost_bundles_put_back_total", "handler"), f.counter("sealpost_bundles_put_back_total", "panic"); h != failures/2 || p != failures/2 {
		t.Errorf("put back after %v errors and %v panics; want %d of each", h, p, failures/2)
	}
	if d, _ := f.stats(); d.Archived != 0 {
		t.Errorf("%d tasks archived", d.Archived)
	}
}

func TestNeverBeforeDue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	type run struct {
		at time.Time
		d  core.Delivery
	}
	runs := make(chan run, 10)
	f.consume(func(_ context.Context, b *core.Bundle) error {
		runs <- run{time.Now(), b.Deliveries[0]}
		f.settleAll(b.Mark)
		return nil
	})
	ctx := t.Context()
	scheduled := asynqKey(retryQueue, scheduledSuffix)
	retryAfter := func(wait time.Duration) core.Delivery {
		ds := fanOut(event("evt_1", 0), 1)
		ds[0].Attempts, ds[0].Due = 1, time.Now().Add(wait)
		if errs := f.producer().Retry(ctx, ds); errs != nil {
			t.Fatal(errs)
		}
		return ds[0]
	}
	check := func(d core.Delivery) {
		t.Helper()
		r := receive(t, "retry", runs)
		if r.d.ID != d.ID || r.at.Before(d.Due.Truncate(time.Millisecond)) {
			t.Errorf("%s ran at %v; want %s, not before %v", r.d.ID, r.at, d.ID, d.Due)
		}
	}
	check(retryAfter(1300 * time.Millisecond))
	// asynq runs it early, as one whose clock is ahead would.
	d := retryAfter(2 * time.Second)
	f.client.ZAddXX(ctx, scheduled, redis.Z{Score: float64(d.Due.Unix() - 1), Member: retryID(&d)})
	check(d)
	d = retryAfter(time.Hour)
	f.client.ZAddXX(ctx, scheduled, redis.Z{Score: 0, Member: retryID(&d)})
	until(t, "put back", func() bool { _, r := f.stats(); return r.Retry == 1 })
	back := f.client.ZScore(ctx, asynqKey(retryQueue, retrySuffix), retryID(&d)).Val()
	if time.Unix(int64(back), 0).Before(d.Due) {
		t.Errorf("put back until %v; want not before %v", back, d.Due.Unix())
	}
	if len(runs) != 0 || f.counter("sealpost_bundles_put_back_total", "early") != 1 {
		t.Error("a bundle ran an hour early, or was not counted as early")
	}
}

// TestExpiredLeaseIsRecovered is a sender that was killed: its task runs again,
// without having lost anything.
func TestExpiredLeaseIsRecovered(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	ds := fanOut(event("evt_1", 0), 1)
	ds[0].Attempts = 1
	if errs := f.producer().Retry(ctx, ds); errs != nil {
		t.Fatal(errs)
	}
	id := f.client.LMove(ctx, asynqKey(retryQueue, pendingSuffix), asynqKey(retryQueue, activeSuffix), "RIGHT", "LEFT").Val()
	f.client.HSet(ctx, taskKeyPrefix(retryQueue)+id, "state", "active")
	f.client.ZAdd(ctx, asynqKey(retryQueue, ":lease"), redis.Z{Score: float64(time.Now().Add(-2 * time.Minute).Unix()), Member: id})
	handler, bundles := f.collect()
	f.consume(handler)
	if b := receive(t, "recovered bundle", bundles); b.ID != retryID(&ds[0]) {
		t.Errorf("bundle %s; want %s", b.ID, retryID(&ds[0]))
	}
	until(t, "task done", func() bool { _, r := f.stats(); return r.Active+r.Retry == 0 })
	f.empty()
}
