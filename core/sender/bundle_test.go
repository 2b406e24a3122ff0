package sender

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

func TestHandleDeliversAll(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 300} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				f.poster.answer = func(request) egress.Result {
					time.Sleep(10 * time.Millisecond)
					return egress.Result{Status: 204}
				}
				a, b := f.endpoint(1), f.endpoint(2)
				refs := append(repeat(a, n-n/2), repeat(b, n/2)...)
				if err := f.Handle(t.Context(), f.bundle(refs...)); err != nil {
					t.Fatal(err)
				}
				if got := len(f.poster.all()); got != n {
					t.Errorf("%d requests; want %d", got, n)
				}
				f.checkMarked(n)
				f.checkIdle()
				rows := f.store.rows()
				if len(rows) != n {
					t.Fatalf("%d rows; want %d", len(rows), n)
				}
				for _, row := range rows {
					if row.Status != core.StatusDelivered || row.ResponseStatus != 204 || row.Number != 1 ||
						row.Reason != "" || row.Latency != 10*time.Millisecond || !row.NextAt.IsZero() {
						t.Errorf("row = %+v", row)
					}
				}
			})
		})
	}
}

func TestHandleRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.poster.answer = func(request) egress.Result {
			time.Sleep(time.Second)
			return egress.Result{Status: 503}
		}
		ref := f.endpoint(1)
		began := time.Now()
		if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
			t.Fatal(err)
		}
		want := []core.Attempt{{
			Delivery: "whd_000", Event: "evt_000", EventType: "lead.created", Endpoint: ref.ID, Number: 1,
			Status: core.StatusRetrying, ResponseStatus: 503, Reason: core.ReasonStatus5xx,
			StartedAt: began, Latency: time.Second, NextAt: began.Add(6 * time.Second),
		}}
		if diff := cmp.Diff(want, f.store.rows()); diff != "" {
			t.Error(diff)
		}
		d := f.queue.retries()["whd_000:1"]
		if d.Attempts != 1 || !d.Due.Equal(began.Add(6*time.Second)) {
			t.Errorf("retry = %+v", d)
		}
		f.checkMarked(1)
	})
}

// What a delivery becomes is confirmed before its row and mark are written.
func TestSettleOrder(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		spent  int  // attempts made before
		ask    bool // to disable the endpoint
		want   string
	}{
		{name: "delivered, for the last time", status: 200, ask: true, want: "update record"},
		{name: "failed, for the last time", status: 500, ask: true, want: "update dead record"},
		{name: "delivered", status: 200, want: "record"},
		{name: "retry", status: 500, want: "retry record"},
		{name: "given up", status: 500, spent: 4, want: "dead record"},
		{name: "gone", status: 410, want: "update dead record"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				f.poster.answer = func(request) egress.Result { return egress.Result{Status: tt.status, Disable: tt.ask} }
				b := f.bundle(f.endpoint(1))
				b.Deliveries[0].Attempts = tt.spent
				if err := f.Handle(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				if got := f.trace.String(); got != tt.want {
					t.Errorf("calls = %q; want %q", got, tt.want)
				}
			})
		})
	}
}

func TestHandleSkipsSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		b := f.bundle(repeat(f.endpoint(1), 4)...)
		b.Settled[0], b.Settled[2] = true, true
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		times, all := f.store.marked()
		if diff := cmp.Diff(map[int]int{1: 1, 3: 1}, times); diff != "" || !all {
			t.Errorf("marked: %s, all: %t", diff, all)
		}
		if n := len(f.poster.all()); n != 2 {
			t.Errorf("%d requests; want 2", n)
		}
	})
}

func TestHandleNothingPending(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	b := f.bundle(repeat(f.endpoint(1), 2)...)
	b.Settled = []bool{true, true}
	if err := f.Handle(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if times, all := f.store.marked(); len(times) != 0 || !all {
		t.Errorf("marked %v, all %t; want none, true", times, all)
	}
	if n := len(f.poster.all()); n != 0 {
		t.Errorf("%d requests; want none", n)
	}
}

// A bundle settles in few groups while attempts are still running.
func TestSettlesInGroups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		slow := f.endpoint(2)
		f.poster.answer = func(r request) egress.Result {
			if strings.Contains(r.target.Origin(), "e2.") {
				time.Sleep(10 * time.Second)
			}
			return egress.Result{Status: 200}
		}
		refs := append(repeat(f.endpoint(1), 40), slow)
		done := make(chan error, 1)
		go func() { done <- f.Handle(t.Context(), f.bundle(refs...)) }()
		time.Sleep(settleInterval + time.Millisecond)
		if times, all := f.store.marked(); len(times) != 40 || all {
			t.Errorf("after the interval %d are marked, all %t; want 40, false", len(times), all)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.checkMarked(41)
		if n := len(f.store.records); n != 2 {
			t.Errorf("%d records; want 2", n)
		}
	})
}

// A full group is settled at once while many are still on their way.
func TestSettlesFullGroupAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.Concurrency = 256 })
		slow := repeat(f.endpoint(3), settleGroup/2)
		f.poster.answer = func(r request) egress.Result {
			if strings.Contains(r.target.Origin(), "e3.") {
				time.Sleep(20 * time.Millisecond)
			}
			return egress.Result{Status: 200}
		}
		go func() {
			time.Sleep(10 * time.Millisecond)
			if times, _ := f.store.marked(); len(times) < settleGroup {
				t.Errorf("%d are marked before the interval; want at least %d", len(times), settleGroup)
			}
		}()
		// The loop may look between two results, and then less than a group lies on
		// either side of it.
		refs := slices.Concat(slow, repeat(f.endpoint(1), 60), repeat(f.endpoint(2), 2*settleGroup))
		if err := f.Handle(t.Context(), f.bundle(refs...)); err != nil {
			t.Fatal(err)
		}
		f.checkMarked(len(refs))
	})
}

// A full group waits for the rest of its bundle where that is not much.
func TestGroupWaitsForTheLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.Concurrency = 256 })
		late := f.endpoint(2)
		f.poster.answer = func(r request) egress.Result {
			if strings.Contains(r.target.Origin(), "e2.") {
				time.Sleep(settleInterval / 2)
			}
			return egress.Result{Status: 200}
		}
		refs := slices.Concat(repeat(f.endpoint(1), settleGroup), repeat(late, settleGroup/2-1))
		if err := f.Handle(t.Context(), f.bundle(refs...)); err != nil {
			t.Fatal(err)
		}
		f.checkMarked(len(refs))
		if n := len(f.store.records); n != 1 {
			t.Errorf("%d records; want 1", n)
		}
	})
}

// Of bundles for one endpoint the first is finished first, and then the next.
func TestBundlesOfAnEndpointInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const perEndpoint, each = 4, 30
		f := newFixture(t, func(o *Options) { o.PerEndpoint = perEndpoint })
		var mu sync.Mutex
		var order []byte // of the bundles, a request each
		f.poster.answer = func(r request) egress.Result {
			mu.Lock()
			order = append(order, r.header.Get("Webhook-Id")[0])
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			return egress.Result{Status: 200}
		}
		endpoint := f.endpoint(1)
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d"} {
			b := f.bundle(repeat(endpoint, each)...)
			for i := range b.Deliveries {
				b.Deliveries[i].Event.ID = fmt.Sprintf("%s%03d", name, i)
			}
			wg.Go(func() {
				if err := f.Handle(t.Context(), b); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Millisecond) // they come one after the other
		}
		wg.Wait()
		if len(order) != 4*each {
			t.Fatalf("%d requests; want %d", len(order), 4*each)
		}
		for i := range order { // those in flight together go out in any order
			if next := i + perEndpoint; next < len(order) && order[i] > order[next] {
				t.Fatalf("requests of the bundles went out in the order %s", order)
			}
		}
		f.checkIdle()
	})
}

func TestConcurrencyBounds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name              string
		process, endpoint int
		endpoints         int
		want              int // highest number in flight
	}{
		{name: "process", process: 5, endpoint: 64, endpoints: 1, want: 5},
		{name: "endpoint", process: 64, endpoint: 7, endpoints: 1, want: 7},
		{name: "two endpoints", process: 64, endpoint: 7, endpoints: 2, want: 14},
		{name: "one", process: 1, endpoint: 1, endpoints: 3, want: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, func(o *Options) { o.Concurrency, o.PerEndpoint = tt.process, tt.endpoint })
				f.poster.answer = func(request) egress.Result {
					time.Sleep(time.Second / 2)
					return egress.Result{Status: 200}
				}
				var refs []core.EndpointRef
				for i := range tt.endpoints {
					refs = append(refs, repeat(f.endpoint(i), 20)...)
				}
				var wg sync.WaitGroup
				for range 3 { // three bundles share the slots
					wg.Go(func() {
						if err := f.Handle(t.Context(), f.bundle(refs...)); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if f.poster.highest != tt.want {
					t.Errorf("%d in flight at the most; want %d", f.poster.highest, tt.want)
				}
				if n := len(f.poster.all()); n != 3*len(refs) {
					t.Errorf("%d requests; want %d", n, 3*len(refs))
				}
				f.checkIdle()
			})
		})
	}
}

// A slow endpoint's deliveries must not hold up another's in the same bundle.
func TestFullEndpointDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.PerEndpoint = 2 })
		slow, quick := f.endpoint(1), f.endpoint(2)
		start := time.Now()
		var mu sync.Mutex
		var last time.Duration
		f.poster.answer = func(r request) egress.Result {
			if strings.Contains(r.target.Origin(), "e1.") {
				time.Sleep(10 * time.Second)
			} else {
				mu.Lock()
				last = time.Since(start)
				mu.Unlock()
			}
			return egress.Result{Status: 200}
		}
		if err := f.Handle(t.Context(), f.bundle(append(repeat(slow, 10), repeat(quick, 50)...)...)); err != nil {
			t.Fatal(err)
		}
		if last > time.Second {
			t.Errorf("the quick endpoint was done after %v", last)
		}
		f.checkMarked(60)
	})
}

func TestPanicConcernsItsDeliveryAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.Concurrency = 2 })
		f.poster.answer = func(r request) egress.Result {
			if r.header.Get("Webhook-Id") == "evt_001" {
				panic("boom")
			}
			return egress.Result{Status: 200}
		}
		err := f.Handle(t.Context(), f.bundle(repeat(f.endpoint(1), 10)...))
		if !errors.Is(err, errPanic) {
			t.Errorf("Handle = %v; want errPanic", err)
		}
		times, all := f.store.marked()
		if len(times) != 9 || times[1] != 0 || all {
			t.Errorf("marked %v, all %t; want all but 1", times, all)
		}
		if !strings.Contains(f.logs.String(), "boom") {
			t.Error("the panic is not in the log")
		}
		f.checkIdle()
	})
}

// Many bundles, random answers, real goroutines: nothing is lost, nothing is
// settled twice, every slot comes back.
func TestManyBundles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.Concurrency, o.PerEndpoint = 16, 4 })
	f.poster.answer = func(request) egress.Result {
		if rand.IntN(12) == 0 { // few enough that no circuit opens
			return egress.Result{Status: 500}
		}
		return egress.Result{Status: 200}
	}
	refs := make([]core.EndpointRef, 5)
	for i := range refs {
		refs[i] = f.endpoint(i)
	}
	const bundles, size = 20, 50
	var wg sync.WaitGroup
	for n := range bundles {
		b := &core.Bundle{ID: fmt.Sprint(n), Mark: core.Mark{DoneKey: "done", Size: size}}
		for i := range size {
			d := f.bundle(refs[rand.IntN(len(refs))]).Deliveries[0]
			d.ID = fmt.Sprintf("whd_%d_%d", n, i)
			b.Deliveries = append(b.Deliveries, d)
		}
		wg.Go(func() {
			if err := f.Handle(context.Background(), b); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	delivered, retries := make(map[string]bool), f.queue.retries()
	for _, row := range f.store.rows() {
		if delivered[row.Delivery] {
			t.Errorf("%s has two rows", row.Delivery)
		}
		delivered[row.Delivery] = true
		if _, ok := retries[row.Delivery+":1"]; ok != (row.Status == core.StatusRetrying) {
			t.Errorf("%s is %s, retry task %t", row.Delivery, row.Status, ok)
		}
	}
	if len(delivered) != bundles*size {
		t.Errorf("%d deliveries have rows; want %d", len(delivered), bundles*size)
	}
	f.checkIdle()
}

// Of two bundles for one full endpoint the first is finished first: shared turn
// by turn, both would be settled in small pieces.
func TestFirstBundleIsFinishedFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.PerEndpoint = 4 })
		f.poster.answer = func(request) egress.Result {
			time.Sleep(time.Second / 2)
			return egress.Result{Status: 200}
		}
		ref := f.endpoint(1)
		start := time.Now()
		var took [2]time.Duration
		var wg sync.WaitGroup
		for n := range took {
			wg.Go(func() {
				if err := f.Handle(t.Context(), f.bundle(repeat(ref, 40)...)); err != nil {
					t.Error(err)
				}
				took[n] = time.Since(start)
			})
			synctest.Wait() // the first one has the slots before the second one asks
		}
		wg.Wait()
		// 40 deliveries at 8 a second each.
		if took[0] > 6*time.Second || took[1] < 10*time.Second {
			t.Errorf("the bundles took %v and %v; want 5 s and 10 s", took[0], took[1])
		}
		f.checkIdle()
	})
}
