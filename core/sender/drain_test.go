package sender

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/pace"
)

// start runs f's drains until the test calls the result, which waits for them.
func (f *fixture) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("Run = %v", err)
		}
	}
}

// feed hands over n bundles of one fresh delivery each, one every step, and
// waits until all are handled. Events are numbered from first.
func (f *fixture) feed(ref core.EndpointRef, first, n int, step time.Duration) {
	var wg sync.WaitGroup
	for i := range n {
		b := f.bundle(ref)
		b.ID = fmt.Sprintf("bundle-%d", first+i)
		d := &b.Deliveries[0]
		d.ID, d.Event.ID = fmt.Sprintf("whd_%05d", first+i), fmt.Sprintf("evt_%05d", first+i)
		wg.Go(func() {
			if err := f.Handle(context.Background(), b); err != nil {
				f.t.Error(err)
			}
		})
		time.Sleep(step)
	}
	wg.Wait()
}

// delivered returns the events that were delivered, in the order of their rows.
func (f *fixture) delivered() []string {
	var ids []string
	for _, row := range f.store.rows() {
		if row.Status == core.StatusDelivered {
			ids = append(ids, row.Event)
		}
	}
	return ids
}

// displaced returns by how many places an event of ids, which are named in their
// order, stands too late or too early at the most.
func displaced(ids []string) int {
	most := 0
	for i, id := range slices.Sorted(slices.Values(ids)) {
		most = max(most, i-slices.Index(ids, id), slices.Index(ids, id)-i)
	}
	return most
}

// runRetries hands over the retries that are due, as the queue would.
func (f *fixture) runRetries() {
	for name, d := range f.queue.retries() {
		if !d.Due.After(time.Now()) {
			f.queue.forget(name)
			b := f.bundle(d.Ref())
			b.ID, b.Deliveries[0] = name, d
			if err := f.Handle(context.Background(), b); err != nil {
				f.t.Error(err)
			}
		}
	}
}

// away answers 500 until its time is over, then 200.
func away(until time.Time) func(request) egress.Result {
	return func(request) egress.Result {
		time.Sleep(time.Millisecond)
		if time.Now().Before(until) {
			return egress.Result{Status: 500}
		}
		return egress.Result{Status: 200}
	}
}

// An endpoint that is away costs the attempts that open its circuit, and probes;
// what waits is delivered in order when it is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		stop := f.start()
		ref := f.endpoint(1)
		back := time.Now().Add(time.Minute)
		f.poster.answer = away(back)
		f.feed(ref, 0, 500, 100*time.Millisecond)
		if c := f.store.condition(ref); c.State != core.StateFailing {
			t.Errorf("condition = %+v; want failing", c)
		}
		if since := f.store.failingSince(ref).Since; since.IsZero() || time.Since(since) < 49*time.Second {
			t.Errorf("failing since %v; want the first failure", since)
		}
		sent := len(f.poster.all())
		// 1, 2, 4, 8, 16 seconds, and the first within the first second.
		if probes := 7; sent > pace.FailuresToOpen+probes || sent < pace.FailuresToOpen+4 {
			t.Errorf("%d requests while it was away; want %d and some probes", sent, pace.FailuresToOpen)
		}
		time.Sleep(time.Until(back) + 31*time.Second)
		if n := f.store.left(ref); n != 0 {
			t.Errorf("%d deliveries still wait", n)
		}
		if c := f.store.condition(ref); c.State != "" {
			t.Errorf("condition = %+v; want none", c)
		}
		if f := f.store.failingSince(ref); !f.Since.IsZero() {
			t.Errorf("failing = %+v; want nothing", f)
		}
		got := f.delivered()
		before := pace.FailuresToOpen - 1 // these wait for retries of their own
		if len(got) != 500-before || displaced(got) > DefaultPerEndpoint {
			t.Errorf("%d delivered, displaced by %d; want all but the %d that failed before the circuit opened, about in order", len(got), displaced(got), before)
		}
		time.Sleep(2 * time.Minute)
		f.runRetries()
		if got := f.delivered(); len(got) != 500 {
			t.Errorf("%d delivered; want 500", len(got))
		}
		stop()
		f.checkIdle()
	})
}

// A failing endpoint that asks to go slower is probed as often as any other: that
// it counts as throttled for a while is no reason to leave it alone for so long.
func TestBusyProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		stop := f.start()
		ref := f.endpoint(1)
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 503} }
		f.feed(ref, 0, 2*pace.FailuresToOpen, 10*time.Millisecond)
		begun := len(f.poster.all())
		time.Sleep(laneTime - time.Second)
		if n := len(f.poster.all()) - begun; n < 3 {
			t.Errorf("%d probes in %v; want them after 1, 2 and 4 seconds", n, laneTime-time.Second)
		}
		stop()
	})
}

// Of several findings about an endpoint that are stored together the worst counts,
// however long the others are to last.
func TestWorstFindingCounts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	finding := func(state core.State, wait time.Duration) core.Condition {
		return core.Condition{State: state, Until: now.Add(wait)}
	}
	for _, tt := range []struct{ a, b, want core.Condition }{
		{finding(core.StateFailing, 1), finding(core.StateThrottled, 9), finding(core.StateFailing, 1)},
		{finding(core.StateThrottled, 1), finding(core.StatePaused, 1), finding(core.StatePaused, 1)},
		{finding(core.StatePaused, 1), finding(core.StatePaused, 9), finding(core.StatePaused, 9)},
		{core.Condition{}, finding(core.StateSlow, 1), finding(core.StateSlow, 1)},
	} {
		for _, order := range [][]core.Condition{{tt.a, tt.b}, {tt.b, tt.a}} {
			var verdicts []*verdict
			for _, c := range order {
				verdicts = append(verdicts, parked(&core.Delivery{Endpoint: "e"}, c, time.Time{}))
			}
			if got := parkingsOf(verdicts, true); len(got) != 1 || got[0].Condition != tt.want {
				t.Errorf("of %v comes %+v; want %v", order, got, tt.want)
			}
		}
	}
}

// Probes have rows of their own and do not use up their delivery.
func TestProbesDoNotExhaust(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.BacklogRetention = 72 * time.Hour })
		stop := f.start()
		ref := f.endpoint(1)
		f.poster.answer = away(time.Now().Add(time.Hour))
		f.feed(ref, 0, pace.FailuresToOpen+5, 10*time.Millisecond)
		time.Sleep(time.Hour + time.Minute)
		head := fmt.Sprintf("evt_%05d", pace.FailuresToOpen-1) // whose failure opened the circuit
		number := 0
		for _, row := range f.store.rows() {
			if row.Event != head {
				continue
			}
			number++
			if row.Number != number {
				t.Fatalf("row %d of the head has number %d", number, row.Number)
			}
			if row.Status == core.StatusRetrying && row.NextAt.Sub(row.EndedAt()) > 30*time.Second {
				t.Errorf("the next probe is at %v after %v", row.NextAt, row.EndedAt())
			}
		}
		if number < 100 || number > 140 {
			t.Errorf("the head has %d rows; want a probe every 30 s", number)
		}
		if got := f.delivered(); len(got) != 6 || len(f.store.letters()) != 0 {
			t.Errorf("%d delivered, %d dead; want 6 and none", len(got), len(f.store.letters()))
		}
		stop()
	})
}

func TestRetryAfterPausesTheEndpoint(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 400, 429, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				stop := f.start()
				ref := f.endpoint(1)
				until := time.Now().Add(40 * time.Second)
				f.poster.answer = func(request) egress.Result {
					if time.Now().Before(until) {
						return egress.Result{Status: status, RetryAfter: "40"}
					}
					return egress.Result{Status: 200}
				}
				f.feed(ref, 0, 20, time.Second)
				if n := len(f.poster.all()); n != 1 {
					t.Errorf("%d requests; want 1, then a pause", n)
				}
				if c := f.store.condition(ref); c.State != core.StatePaused || c.Until.Before(until) {
					t.Errorf("condition = %+v; want paused until %v", c, until)
				}
				time.Sleep(time.Until(until) + time.Second)
				f.runRetries()
				time.Sleep(time.Second)
				if got := f.delivered(); len(got) != 20 {
					t.Errorf("delivered %v; want all 20", got)
				}
				if c := f.store.condition(ref); c.Parks(time.Now()) {
					t.Errorf("condition = %+v; want none", c)
				}
				stop()
			})
		})
	}
}

// An endpoint that asks to go slower gets its deliveries from its backlog, and the
// fast lane again when it has stopped asking.
func TestThrottled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		stop := f.start()
		ref := f.endpoint(1)
		busy := true
		f.poster.answer = func(request) egress.Result {
			if busy {
				busy = false
				return egress.Result{Status: 503}
			}
			return egress.Result{Status: 200}
		}
		f.feed(ref, 0, 50, 10*time.Millisecond)
		time.Sleep(time.Second)
		if got := f.delivered(); len(got) != 49 {
			t.Errorf("%d delivered; want 49", len(got))
		}
		if c := f.store.condition(ref); c.State != core.StateThrottled {
			t.Errorf("condition = %+v; want throttled", c)
		}
		checkValue(t, f.reg, "sealpost_sender_parked_total", "", 49)
		time.Sleep(laneTime)
		f.feed(ref, 50, 10, 10*time.Millisecond)
		checkValue(t, f.reg, "sealpost_sender_parked_total", "", 49)
		if got := f.delivered(); len(got) != 59 {
			t.Errorf("%d delivered; want 59", len(got))
		}
		stop()
	})
}

// A throttled endpoint whose circuit opens by attempts that were in flight when its
// drain began is left alone by the drain as well.
func TestThrottledAndThenFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		opens := time.Now().Add(100 * time.Millisecond) // when those in flight have failed
		var late atomic.Int64
		var back atomic.Bool
		f.poster.answer = func(r request) egress.Result {
			id := r.header.Get("Webhook-Id")
			switch parked := strings.Count(id, "_") > 1; {
			case back.Load():
				return egress.Result{Status: 200}
			case id == "evt_000": // the endpoint is throttled, and its backlog flows
				time.Sleep(time.Millisecond) // after the others have begun
			case !parked:
				time.Sleep(time.Until(opens))
			default:
				if time.Now().After(opens.Add(time.Millisecond)) {
					late.Add(1)
				}
				time.Sleep(30 * time.Millisecond)
			}
			return egress.Result{Status: 503}
		}
		handled := make(chan error, 1)
		go func() { handled <- f.Handle(t.Context(), f.bundle(repeat(ref, 2*pace.FailuresToOpen)...)) }()
		time.Sleep(settleInterval + 10*time.Millisecond)
		if c := f.store.condition(ref); c.State != core.StateThrottled {
			t.Fatalf("condition = %+v; want throttled", c)
		}
		f.park(ref, 1000, 50)
		stop := f.start()
		if err := <-handled; err != nil {
			t.Error(err)
		}
		time.Sleep(pace.ProbeInterval(0) / 2)
		if n := late.Load(); n > 0 {
			t.Errorf("%d attempts out of the backlog began after the circuit was open", n)
		}
		if c := f.store.condition(ref); c.State != core.StateFailing {
			t.Errorf("condition = %+v; want failing", c)
		}
		back.Store(true)
		time.Sleep(pace.ProbeInterval(0))
		if n := f.store.left(ref); n > 0 {
			t.Errorf("%d wait after the endpoint is back", n)
		}
		stop()
	})
}

// Of endpoints that answer after two seconds the others notice nothing, however
// few slots there are.
func TestSlowEndpointsHoldUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.Concurrency, o.PerEndpoint = 16, 8 })
		stop := f.start()
		slow, quick := f.endpoint(1), f.endpoint(2)
		f.poster.answer = func(r request) egress.Result {
			if r.host() == "e1.example.com" {
				time.Sleep(2 * time.Second)
			}
			return egress.Result{Status: 200}
		}
		var wg sync.WaitGroup
		wg.Go(func() { f.feed(slow, 10_000, 200, 50*time.Millisecond) })
		for i := range 200 {
			begin := time.Now()
			f.feed(quick, i, 1, 0)
			if took := time.Since(begin); took > inTime+2*watchInterval {
				t.Errorf("a delivery to the quick endpoint took %v", took)
			}
			time.Sleep(50 * time.Millisecond)
		}
		wg.Wait()
		if c := f.store.condition(slow); c.State != core.StateSlow && c.State != core.StateCatchingUp {
			t.Errorf("condition = %+v; want slow", c)
		}
		time.Sleep(2 * time.Minute)
		if got := f.delivered(); len(got) != 400 {
			t.Errorf("%d delivered; want 400", len(got))
		}
		stop()
		f.checkIdle()
	})
}

func TestFIFO(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		stop := f.start()
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.FIFO = true })
		failures := map[string]int{"evt_00003": 2, "evt_00007": 99}
		f.poster.answer = func(r request) egress.Result {
			time.Sleep(5 * time.Millisecond)
			id := r.header.Get("Webhook-Id")
			if failures[id] > 0 {
				failures[id]--
				return egress.Result{Status: 500}
			}
			return egress.Result{Status: 200}
		}
		f.feed(ref, 0, 30, time.Millisecond)
		time.Sleep(time.Second)
		if got := f.delivered(); len(got) != 3 {
			t.Errorf("delivered %v; want what stands before the head that fails", got)
		}
		if c := f.store.condition(ref); c.State != core.StateFailing {
			t.Errorf("condition = %+v; want failing", c)
		}
		time.Sleep(time.Hour)
		var want []string
		for i := range 30 {
			if i != 7 {
				want = append(want, fmt.Sprintf("evt_%05d", i))
			}
		}
		if got := f.delivered(); !slices.Equal(got, want) {
			t.Errorf("delivered %v; want %v", got, want)
		}
		if f.poster.highest != 1 {
			t.Errorf("%d in flight; want 1", f.poster.highest)
		}
		letters := f.store.letters()
		if l, ok := letters["whd_00007"]; len(letters) != 1 || !ok || l.Delivery.Attempts != testSchedule().MaxAttempts {
			t.Errorf("dead letters = %+v; want the one head that never succeeded", letters)
		}
		if n := len(f.queue.retries()); n != 0 {
			t.Errorf("%d retries of their own; want none", n)
		}
		stop()
	})
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		stop := f.start()
		ref := f.endpoint(1)
		const rate = 10
		f.store.set(ref, func(e *core.Endpoint) { e.RateLimit = rate })
		var mu sync.Mutex
		var at []time.Time
		f.poster.answer = func(request) egress.Result {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			return egress.Result{Status: 200}
		}
		f.feed(ref, 0, 100, time.Millisecond)
		time.Sleep(20 * time.Second)
		f.feed(ref, 100, 20, 30*time.Millisecond) // one drain after the other
		time.Sleep(10 * time.Second)
		stop()
		mu.Lock()
		defer mu.Unlock()
		if len(at) != 120 {
			t.Fatalf("%d requests; want 120", len(at))
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < time.Second/rate {
				t.Errorf("request %d came %v after the one before", i, gap)
			}
		}
		if took := at[99].Sub(at[0]); took > 11*time.Second {
			t.Errorf("100 requests took %v; want about 10 s", took)
		}
	})
}

func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		stop := f.start()
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.MaxInFlight = 3 })
		f.poster.answer = func(request) egress.Result {
			time.Sleep(100 * time.Millisecond)
			return egress.Result{Status: 200}
		}
		f.feed(ref, 0, 60, time.Millisecond)
		time.Sleep(5 * time.Second)
		if got := f.delivered(); len(got) != 60 || f.poster.highest != 3 {
			t.Errorf("%d delivered, %d in flight; want 60, 3", len(got), f.poster.highest)
		}
		stop()
	})
}

// What comes for a disabled endpoint waits, and flows when it is enabled.
func TestDisabledHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.BacklogRetention = 72 * time.Hour })
		stop := f.start()
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.Enabled, e.Drop = false, false })
		f.feed(ref, 0, 20, time.Millisecond)
		time.Sleep(24 * time.Hour)
		if n := len(f.poster.all()) + len(f.store.letters()) + len(f.store.rows()); n != 0 || f.store.left(ref) != 20 {
			t.Errorf("%d requests, dead letters or rows, %d wait; want 20 that wait", n, f.store.left(ref))
		}
		f.store.set(ref, func(e *core.Endpoint) { e.Enabled = true }) // at the very moment of a look
		time.Sleep(core.ChangeDelay)
		f.store.wake(ref)
		time.Sleep(time.Second)
		if got := f.delivered(); len(got) != 20 {
			t.Errorf("delivered %v; want all", got)
		}
		f.store.set(ref, func(e *core.Endpoint) { e.Enabled = false })
		time.Sleep(time.Second)
		f.feed(ref, 20, 5, time.Millisecond)
		time.Sleep(73 * time.Hour)
		letters := f.store.letters()
		for _, l := range letters {
			if l.Reason != core.ReasonExpired {
				t.Errorf("dead because of %s; want expired", l.Reason)
			}
		}
		if len(letters) != 5 || f.store.left(ref) != 0 {
			t.Errorf("%d dead letters, %d wait; want 5 dead", len(letters), f.store.left(ref))
		}
		stop()
	})
}

// Deliveries of an endpoint that is deleted or moved while they wait.
func TestChangedWhileWaiting(t *testing.T) {
	t.Parallel()
	for _, deleted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, nil)
			stop := f.start()
			ref := f.endpoint(1)
			f.poster.answer = func(r request) egress.Result {
				if r.host() == "new.example.com" {
					return egress.Result{Status: 200}
				}
				return egress.Result{Status: 500}
			}
			f.feed(ref, 0, 40, 10*time.Millisecond)
			sent := len(f.poster.all())
			if deleted {
				f.store.delete(ref)
			} else {
				f.store.set(ref, func(e *core.Endpoint) { e.URL = "https://new.example.com/hook" })
			}
			time.Sleep(core.ChangeDelay)
			f.store.wake(ref)
			time.Sleep(time.Minute)
			if n := f.store.left(ref); n != 0 {
				t.Errorf("%d deliveries still wait", n)
			}
			more := f.poster.all()[sent:]
			for _, r := range more {
				if deleted || r.host() != "new.example.com" {
					t.Errorf("a request to %s", r.host())
				}
			}
			if want := 40 - pace.FailuresToOpen + 1; !deleted && len(more) != want {
				t.Errorf("%d requests to the new URL; want %d", len(more), want)
			}
			stop()
		})
	}
}

// A drain whose claim another took starts nothing new; together they send what was
// in flight twice at most.
func TestOverlappingDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.MaxInFlight = 8 })
		f.poster.answer = func(request) egress.Result {
			time.Sleep(900 * time.Millisecond)
			return egress.Result{Status: 200}
		}
		f.feed(ref, 0, 200, 0)
		stop := f.start()
		time.Sleep(holdInterval - time.Second)
		f.store.steal(ref) // its lease is over, as far as Redis knows
		other := f.start()
		time.Sleep(2 * time.Minute)
		times := make(map[string]int)
		twice := 0
		for _, id := range f.delivered() {
			if times[id]++; times[id] == 2 {
				twice++
			}
		}
		if len(times) != 200 || f.store.left(ref) != 0 {
			t.Errorf("%d delivered, %d wait; want 200 and none", len(times), f.store.left(ref))
		}
		if twice > 2*8+settleGroup {
			t.Errorf("%d delivered twice; want only what was in flight", twice)
		}
		if c := f.store.condition(ref); c.State != "" {
			t.Errorf("condition = %+v; want none", c)
		}
		stop()
		other()
		f.checkIdle()
	})
}

// A drain whose process was frozen beyond its claim asks before it starts anything.
func TestFrozenDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var frozen atomic.Int64
		f := newFixture(t, func(o *Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(frozen.Load())) }
		})
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.FIFO = true })
		f.poster.answer = func(request) egress.Result {
			// Less than drainTick: the end of an attempt comes before the next look at the claim.
			if frozen.CompareAndSwap(0, int64(core.ClaimLease)) {
				f.store.mu.Lock()
				f.store.owners[ref] = "another"
				f.store.mu.Unlock()
			}
			return egress.Result{Status: 200}
		}
		f.feed(ref, 0, 10, 0)
		stop := f.start()
		time.Sleep(drainTick / 2)
		if n := len(f.poster.all()); n != 1 {
			t.Errorf("%d requests; want only the one that was in flight", n)
		}
		stop()
	})
}

// A drain that ends in good order leaves the rest to others at once.
func TestDrainStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.MaxInFlight = 4 })
		f.poster.answer = func(request) egress.Result {
			time.Sleep(500 * time.Millisecond)
			return egress.Result{Status: 200}
		}
		f.feed(ref, 0, 100, 0)
		stop := f.start()
		time.Sleep(1600 * time.Millisecond)
		f.Drain()
		time.Sleep(500 * time.Millisecond)
		sent := len(f.poster.all())
		if got := f.delivered(); len(got) != sent || sent == 100 || f.store.left(ref) != 100-sent {
			t.Errorf("%d sent, %d delivered, %d wait; want every one sent delivered, the others waiting", sent, len(got), f.store.left(ref))
		}
		if claims, _, _ := f.store.ClaimBacklogs(t.Context(), 1); len(claims) != 1 {
			t.Error("the backlog is not free for others")
		}
		stop()
		f.checkIdle()
	})
}

// Results that cannot be stored keep their deliveries in the backlog.
func TestDrainWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.MaxInFlight = 4 })
		f.feed(ref, 0, 50, 0)
		up := time.Now().Add(3 * time.Minute)
		down := func() error {
			if time.Now().Before(up) {
				return errDown
			}
			return nil
		}
		f.store.recordFunc = func(core.Record) error { return down() }
		f.store.holdFunc = func(core.Claim) error { return down() }
		stop := f.start()
		time.Sleep(10 * time.Minute)
		got := make(map[string]bool)
		for _, id := range f.delivered() {
			got[id] = true
		}
		if len(got) != 50 || f.store.left(ref) != 0 {
			t.Errorf("%d delivered, %d wait; want 50 and none", len(got), f.store.left(ref))
		}
		stop()
	})
}

// While results cannot be stored the claim is held: nobody else sends them again
// meanwhile, or overtakes them.
func TestDrainHoldsWhileSettling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.FIFO = true })
		f.feed(ref, 0, 5, time.Millisecond)
		room := time.Now().Add(3 * core.ClaimLease)
		f.store.recordFunc = func(core.Record) error {
			if time.Now().Before(room) {
				return errDown
			}
			return nil
		}
		stop := f.start()
		time.Sleep(time.Until(room) + time.Minute)
		if n := len(f.poster.all()); n != 5 {
			t.Errorf("%d requests for 5 deliveries", n)
		}
		if got := f.delivered(); len(got) != 5 || !slices.IsSorted(got) {
			t.Errorf("delivered %v; want each once and in order", got)
		}
		stop()
		f.checkIdle()
	})
}

// What must be parked and cannot be stays in its bundle.
func TestParkFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.FIFO = true })
		f.store.parkFunc = func([]core.Parking) error { return errDown }
		if err := f.Handle(t.Context(), f.bundle(ref, ref)); !errors.Is(err, errDown) {
			t.Errorf("Handle = %v; want %v", err, errDown)
		}
		if times, _ := f.store.marked(); len(times) != 0 {
			t.Errorf("marked %v; want none", times)
		}
	})
}

// Beyond the bounds of a backlog the oldest become dead letters, whatever keeps the
// others there.
func TestOverflow(t *testing.T) {
	t.Parallel()
	for _, failing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, nil)
			f.store.most = 2 * drainAhead
			ref := f.endpoint(1)
			f.poster.answer = func(request) egress.Result { return egress.Result{Status: 500} }
			if !failing {
				f.store.set(ref, func(e *core.Endpoint) { e.Enabled, e.Drop = false, false })
			}
			stop := f.start()
			n := 5 * drainAhead
			f.feed(ref, 0, n, time.Millisecond)
			time.Sleep(10 * time.Second)
			if left := f.store.left(ref); left != f.store.most {
				t.Errorf("%d wait; want %d", left, f.store.most)
			}
			letters := f.store.letters()
			for i := range n - f.store.most - 2*pace.FailuresToOpen { // the newest are still there
				id := fmt.Sprintf("whd_%05d", i)
				if l, ok := letters[id]; ok && l.Reason != core.ReasonOverflow || !ok && (!failing || i >= pace.FailuresToOpen) {
					t.Errorf("dead letter of %s = %+v; want one because of overflow", id, l)
				}
			}
			if sent := len(f.poster.all()); failing && sent > pace.FailuresToOpen+6 {
				t.Errorf("%d requests; want no more than some probes", sent)
			}
			stop()
			f.checkIdle()
		})
	}
}

// An endpoint that does nothing but fail is disabled in the end, after warnings.
func TestDisabledAfterFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const after = 10 * time.Hour
		f := newFixture(t, func(o *Options) { o.DisableAfter, o.BacklogRetention = after, 72*time.Hour })
		stop := f.start()
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.Drop = false })
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 500} }
		f.feed(ref, 0, pace.FailuresToOpen+3, time.Second)
		time.Sleep(after - time.Minute)
		if !f.store.endpoint(ref).Enabled {
			t.Fatal("disabled too early")
		}
		time.Sleep(2 * time.Minute)
		e := f.store.endpoint(ref)
		if e.Enabled || e.DisabledBy != core.ReasonFailing {
			t.Errorf("enabled %t by %q; want disabled because of failing", e.Enabled, e.DisabledBy)
		}
		told := f.told.all()
		for _, percent := range []int{50, 75, 90} {
			if n := told[fmt.Sprintf("%s failing: %d %%", ref.ID, percent)]; n != 1 {
				t.Errorf("warned of %d %% %d times; want once", percent, n)
			}
		}
		if n := told[ref.ID+" disabled: failing"]; n != 1 || len(told) != 4 {
			t.Errorf("told %v; want three warnings and the end", told)
		}
		if n := f.store.left(ref); n != 4 {
			t.Errorf("%d wait; want 4", n)
		}
		stop()
	})
}

// None is disabled without a warning, however rarely it is tried.
func TestWarnedBeforeDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const after = 10 * time.Hour
		f := newFixture(t, func(o *Options) { o.DisableAfter = after })
		ref := f.endpoint(1)
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 500} }
		for i, enabled := range []bool{true, true, false} {
			f.feed(ref, i, 1, 0)
			if e := f.store.endpoint(ref); e.Enabled != enabled {
				t.Errorf("enabled %t after failure %d", e.Enabled, i+1)
			}
			time.Sleep(after + time.Minute)
		}
		if told := f.told.all(); told[ref.ID+" failing: 90 %"] != 1 || told[ref.ID+" disabled: failing"] != 1 {
			t.Errorf("told %v; want a warning and the end", told)
		}
	})
}
