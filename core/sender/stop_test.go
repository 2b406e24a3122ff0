package sender

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// slowly answers 200 after a second, so that of 10 deliveries to one endpoint
// with 3 slots some are in flight, some waiting, some done at any time.
func slowly(request) egress.Result {
	time.Sleep(time.Second)
	return egress.Result{Status: 200}
}

func TestDrainPutsBackTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.PerEndpoint = 3 })
		f.poster.answer = slowly
		b := f.bundle(repeat(f.endpoint(1), 10)...)
		b.Deliveries[9].Attempts, b.Deliveries[9].Due = 2, time.Now()
		done := make(chan error, 1)
		go func() { done <- f.Handle(t.Context(), b) }()
		time.Sleep(1500 * time.Millisecond) // 3 delivered, 3 in flight, 4 waiting
		f.Drain()
		f.Drain() // a second call does no harm
		synctest.Wait()

		// What waits is put back before what is in flight ends.
		back := f.queue.deferrals()
		if len(back) != 1 || len(back[0].deliveries) != 4 || !back[0].due.IsZero() {
			t.Fatalf("put back = %+v; want one group of 4, due at once", back)
		}
		for i, d := range back[0].deliveries {
			if want := b.Deliveries[6+i]; d != want {
				t.Errorf("put back %+v; want it as it was: %+v", d, want)
			}
		}
		if err := <-done; err != nil {
			t.Errorf("Handle = %v; want nil", err)
		}
		if n := len(f.poster.all()); n != 6 {
			t.Errorf("%d requests; want 6", n)
		}
		f.checkMarked(10)
		f.checkIdle()
	})
}

func TestHandleWhileDraining(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 5} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, nil)
			b := f.bundle(repeat(f.endpoint(1), n)...)
			f.Drain()
			if err := f.Handle(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if got := len(f.poster.all()); got != 0 {
				t.Errorf("%d requests; want none", got)
			}
			if back := f.queue.deferrals(); len(back) != 1 || len(back[0].deliveries) != n {
				t.Errorf("put back = %+v; want %d deliveries", back, n)
			}
			if rows := f.store.rows(); len(rows) != 0 {
				t.Errorf("rows = %+v; want none", rows)
			}
			f.checkMarked(n)
		})
	}
}

// If putting back fails the task has to come back: nothing is marked.
func TestDrainWithoutRedis(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.queue.deferFunc = func([]core.Delivery, time.Time) error { return errors.New("down") }
		f.Drain()
		if err := f.Handle(t.Context(), f.bundle(repeat(f.endpoint(1), 5)...)); err == nil {
			t.Error("Handle = nil; want an error")
		}
		if times, _ := f.store.marked(); len(times) != 0 {
			t.Errorf("marked %v; want none", times)
		}
	})
}

func TestLeaseLossFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.PerEndpoint = 3 })
		f.poster.answer = slowly
		lost := errors.New("lease expired")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Handle(ctx, f.bundle(repeat(f.endpoint(1), 10)...)) }()
		time.Sleep(1500 * time.Millisecond)
		cancel(lost)
		if err := <-done; !errors.Is(err, lost) {
			t.Errorf("Handle = %v; want %v", err, lost)
		}
		// The three in flight were finished and noted; the rest was left alone.
		if n := len(f.poster.all()); n != 6 {
			t.Errorf("%d requests; want 6", n)
		}
		if times, all := f.store.marked(); len(times) != 6 || all {
			t.Errorf("marked %v, all %t; want 6, false", times, all)
		}
		if back := f.queue.deferrals(); len(back) != 0 {
			t.Errorf("put back = %+v; want nothing", back)
		}
		f.checkIdle()
	})
}

// A connection that becomes ready after the lease was lost carries no request.
func TestLeaseLossBeforeFirstByte(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		f.poster.connect = func(*egress.Target) { cancel() }
		err := f.Handle(ctx, f.bundle(f.endpoint(1)))
		if !errors.Is(err, errLeaseLost) {
			t.Errorf("Handle = %v; want errLeaseLost", err)
		}
		if n := len(f.poster.all()); n != 0 {
			t.Errorf("%d requests; want none", n)
		}
		f.checkIdle()
	})
}

func TestLeaseLostWhileWaitingForSlots(t *testing.T) {
	t.Parallel()
	for _, full := range []string{"process", "endpoint"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, func(o *Options) {
				if full == "process" {
					o.Concurrency = 1
				} else {
					o.PerEndpoint = 1
				}
			})
			f.poster.answer = func(request) egress.Result {
				time.Sleep(10 * time.Second)
				return egress.Result{Status: 200}
			}
			ref := f.endpoint(1)
			first := make(chan error, 1)
			go func() { first <- f.Handle(t.Context(), f.bundle(ref)) }()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			if err := f.Handle(ctx, f.bundle(ref)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Handle = %v; want the end of the lease", err)
			}
			if waited := time.Since(start); waited != time.Second {
				t.Errorf("Handle took %v; want 1s", waited)
			}
			if err := <-first; err != nil {
				t.Error(err)
			}
			f.checkIdle()
		})
	}
}

func TestHandlerLimitPutsBackTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.PerEndpoint, o.HandlerLimit = 1, 2*time.Minute })
		f.poster.answer = func(request) egress.Result {
			time.Sleep(14 * time.Second)
			return egress.Result{Status: 200}
		}
		start := time.Now()
		if err := f.Handle(t.Context(), f.bundle(repeat(f.endpoint(1), 20)...)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*time.Minute {
			t.Errorf("Handle took %v; want at most 2m", took)
		}
		sent := len(f.poster.all())
		back := f.queue.deferrals()
		if len(back) != 1 || sent == 0 || sent+len(back[0].deliveries) != 20 {
			t.Errorf("%d sent, put back %+v; want 20 together", sent, back)
		}
		f.checkMarked(20)
		f.checkIdle()
	})
}

// When everything was in flight already, the loss of the lease changes nothing.
func TestLeaseLossAfterTheLastStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.poster.answer = slowly
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := f.Handle(ctx, f.bundle(repeat(f.endpoint(1), 10)...)); err != nil {
			t.Errorf("Handle = %v; want nil, since all is settled", err)
		}
		f.checkMarked(10)
		f.checkIdle()
	})
}

// A slot of the endpoint that was handed over, and waits for one of the
// process, is given back by a drain.
func TestDrainGivesHandedSlotsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.Concurrency, o.PerEndpoint = 2, 1 })
		f.poster.answer = func(r request) egress.Result {
			if strings.Contains(r.target.Origin(), "e1.") {
				time.Sleep(time.Second)
			} else {
				time.Sleep(10 * time.Second)
			}
			return egress.Result{Status: 200}
		}
		one, two, three := f.endpoint(1), f.endpoint(2), f.endpoint(3)
		var runs []chan error
		handle := func(ref core.EndpointRef) {
			done := make(chan error, 1)
			runs = append(runs, done)
			go func() { done <- f.Handle(t.Context(), f.bundle(ref)) }()
			synctest.Wait()
		}
		handle(one) // takes the endpoint and a slot of the process
		handle(one) // waits for the endpoint
		handle(two) // takes the last slot of the process
		handle(three)
		// The third endpoint waits for the process and gets the slot that the first
		// gives back after a second; the second has the endpoint by then, but no slot.
		time.Sleep(2 * time.Second)
		f.Drain()
		for _, done := range runs {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := len(f.poster.all()); n != 3 {
			t.Errorf("%d requests; want 3", n)
		}
		f.checkIdle()
	})
}

// A drain ends the patience with a Redis that fails.
func TestDrainEndsPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.store.recordsFunc = func(context.Context, []core.EndpointRef) error { return errDown }
		start := time.Now()
		time.AfterFunc(time.Second, f.Drain)
		if err := f.Handle(t.Context(), f.bundle(f.endpoint(1))); !errors.Is(err, errDown) {
			t.Errorf("Handle = %v; want %v", err, errDown)
		}
		if took := time.Since(start); took > time.Second+maxWait {
			t.Errorf("Handle took %v; want an end soon after 1s", took)
		}
	})
}
