package sender

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/retry"
)

// park puts n fresh deliveries into the backlog of ref, numbered from first.
func (f *fixture) park(ref core.EndpointRef, first, n int) {
	f.t.Helper()
	if _, err := f.store.Park(f.t.Context(), []core.Parking{{Endpoint: ref, Deliveries: f.fresh(ref, first, n)}}); err != nil {
		f.t.Fatal(err)
	}
}

// longSchedule takes hours.
func longSchedule(o *Options) {
	o.Schedule = retry.Schedule{Base: 5 * time.Second, Factor: 4, Cap: 12 * time.Hour, MaxAttempts: 12}
	o.BacklogRetention = 72 * time.Hour
}

// A backlog that flows is trimmed of what has not begun: nothing is both sent and
// given up, or sent twice.
func TestTrimWhileSending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.store.most = 1000
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.MaxInFlight = 50 })
		f.poster.answer = func(request) egress.Result {
			time.Sleep(900 * time.Millisecond)
			return egress.Result{Status: 200}
		}
		f.park(ref, 0, 1000)
		stop := f.start()
		for i := range 400 {
			f.park(ref, 1000+i*4, 4)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(2 * time.Minute)
		stop()
		sent := make(map[string]int)
		for _, id := range f.poster.sent() {
			if sent[id]++; sent[id] == 2 {
				t.Errorf("%s was sent twice", id)
			}
		}
		letters := f.store.letters()
		for _, l := range letters {
			if sent[l.Delivery.Event.ID] > 0 {
				t.Errorf("%s was sent and given up", l.Delivery.Event.ID)
			}
		}
		if len(letters) == 0 || len(letters)+len(sent) != 2600 {
			t.Errorf("%d given up, %d sent; want some given up, 2600 in all", len(letters), len(sent))
		}
	})
}

// A backlog is bounded while a drain sends little of it.
func TestTrimWhilePaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, longSchedule)
		f.store.most = 200
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.RateLimit = 0.1 })
		stop := f.start()
		f.park(ref, 0, 150)
		time.Sleep(time.Second)
		for i := range 500 {
			f.park(ref, 150+i*4, 4)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * holdInterval)
		if n := f.store.left(ref); n > f.store.most {
			t.Errorf("%d wait; want at most %d", n, f.store.most)
		}
		stop()
	})
}

// Nothing is sent under limits that could not be read.
func TestLimitsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, longSchedule)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.FIFO = true })
		var reads atomic.Int32
		f.store.recordsFunc = func(context.Context, []core.EndpointRef) error {
			if reads.Add(1) == 1 {
				return errDown
			}
			return nil
		}
		var failed atomic.Bool
		f.poster.answer = func(request) egress.Result {
			time.Sleep(10 * time.Millisecond)
			if failed.CompareAndSwap(false, true) {
				return egress.Result{Status: 500}
			}
			return egress.Result{Status: 200}
		}
		f.park(ref, 0, 4)
		stop := f.start()
		time.Sleep(time.Hour)
		if got := f.delivered(); len(got) != 4 || !slices.IsSorted(got) || f.poster.highest != 1 || len(f.queue.retries()) != 0 {
			t.Errorf("delivered %v, %d at a time, %d retries; want all in order, one at a time", got, f.poster.highest, len(f.queue.retries()))
		}
		stop()
	})
}

// A pause holds although another attempt is in flight for long.
func TestPauseOutlastsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 5} { // nothing is left to wait, and something
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, longSchedule)
			ref := f.endpoint(1)
			var requests atomic.Int32
			f.poster.answer = func(request) egress.Result {
				switch requests.Add(1) {
				case 1:
					time.Sleep(100 * time.Millisecond)
					return egress.Result{Status: 429, RetryAfter: "3600"}
				case 2:
					time.Sleep(12 * time.Second)
				}
				return egress.Result{Status: 200}
			}
			began := time.Now()
			f.park(ref, 0, n)
			stop := f.start()
			time.Sleep(20 * time.Second)
			f.feed(ref, 10, 1, 0)
			time.Sleep(time.Minute)
			if n := len(f.poster.all()); n != 2 {
				t.Errorf("%d requests; want none during the pause", n)
			}
			if c := f.store.condition(ref); c.State != core.StatePaused || c.Until.Before(began.Add(time.Hour)) {
				t.Errorf("condition %+v; want the pause", c)
			}
			stop()
		})
	}
}

// What a probe's own schedule would say about its age does not count.
func TestProbesRespectMaxAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, longSchedule)
		stop := f.start()
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.MaxAge = time.Hour })
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 500} }
		f.feed(ref, 0, 40, 10*time.Millisecond)
		time.Sleep(50 * time.Minute)
		if n := len(f.store.letters()); n != 0 {
			t.Errorf("%d dead letters before the hour is over", n)
		}
		time.Sleep(20 * time.Minute)
		if n := f.store.left(ref); n != 0 {
			t.Errorf("%d wait longer than they may grow old", n)
		}
		stop()
	})
}

// onceBusyPoster says for the first time that it has no connection.
type onceBusyPoster struct {
	*stubPoster
	asked bool
}

func (p *onceBusyPoster) Post(ctx context.Context, began time.Time, timeout time.Duration, target *egress.Target, compose egress.Compose) egress.Result {
	if !p.asked {
		p.asked = true
		return egress.Result{Err: egress.ErrBusy}
	}
	return p.stubPoster.Post(ctx, began, timeout, target, compose)
}

// What waited longer than its schedule lasts is not given up because of us, and
// gets another attempt if its first one fails.
func TestWaitedLongerThanItsSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &onceBusyPoster{stubPoster: new(stubPoster)}
		f := newFixture(t, func(o *Options) { o.BacklogRetention, o.Client = 72*time.Hour, p })
		p.answer = func(r request) egress.Result {
			if len(p.all()) == 1 {
				return egress.Result{Status: 500}
			}
			return egress.Result{Status: 200}
		}
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.MaxInFlight = 1 })
		f.park(ref, 0, 5)
		time.Sleep(time.Hour)
		stop := f.start()
		time.Sleep(time.Minute)
		if len(f.store.letters()) != 0 || len(f.delivered()) != 4 || len(f.queue.retries()) != 1 {
			t.Errorf("%d dead, %d delivered, %d to be retried; want 0, 4, 1", len(f.store.letters()), len(f.delivered()), len(f.queue.retries()))
		}
		stop()
	})
}

// However slow the endpoints are whose backlogs flow, another one finds places.
func TestPlacesAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) {
			longSchedule(o)
			o.Concurrency, o.PerEndpoint = 16, 16
		})
		quick := f.endpoint(99)
		f.store.set(quick, func(e *core.Endpoint) { e.RateLimit = 100 })
		f.poster.answer = func(r request) egress.Result {
			if r.host() == "e99.example.com" {
				time.Sleep(5 * time.Millisecond)
			} else {
				time.Sleep(10 * time.Second)
			}
			return egress.Result{Status: 200}
		}
		for i := range 8 {
			ref := f.endpoint(i)
			f.store.set(ref, func(e *core.Endpoint) { e.MaxInFlight = 64 })
			f.park(ref, i*1000, 1000)
		}
		stop := f.start()
		time.Sleep(4 * time.Minute)
		f.park(quick, 10_000, 3000)
		time.Sleep(31 * time.Second)
		got := 0
		for _, r := range f.poster.all() {
			if r.host() == "e99.example.com" {
				got++
			}
		}
		if got < 2900 {
			t.Errorf("%d requests to the quick endpoint in 31 s; want 100 a second", got)
		}
		stop()
	})
}

// What an old URL answered says nothing about the new one.
func TestConditionOfAnOldURL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.poster.answer = func(r request) egress.Result {
			if r.host() == "new.example.com" {
				return egress.Result{Status: 200}
			}
			time.Sleep(2 * time.Second)
			return egress.Result{Status: 503, RetryAfter: "3600"}
		}
		stop := f.start()
		go f.feed(ref, 0, 1, 0)
		time.Sleep(time.Second)
		f.store.set(ref, func(e *core.Endpoint) { e.URL = "https://new.example.com/" })
		time.Sleep(core.ChangeDelay)
		f.store.wake(ref)
		time.Sleep(time.Second)
		f.feed(ref, 1, 5, 10*time.Millisecond)
		time.Sleep(time.Second)
		if got := f.delivered(); len(got) != 5 {
			t.Errorf("delivered %v; want what came for the new URL", got)
		}
		if c := f.store.condition(ref); c.State != "" {
			t.Errorf("condition %+v; want none", c)
		}
		stop()
	})
}

// A note that cannot be stored holds nobody up.
func TestNoteFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.store.parkFunc = func([]core.Parking) error { return errDown }
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 500} }
		began := time.Now()
		if err := f.Handle(t.Context(), f.bundle(f.endpoint(1), f.endpoint(2))); err != nil {
			t.Errorf("Handle = %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		f.checkMarked(2)
	})
}

// A disabled endpoint is not noted as catching up.
func TestDisabledIsNotCatchingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, longSchedule)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.Enabled, e.Drop = false, false })
		stop := f.start()
		f.park(ref, 0, 5)
		time.Sleep(20 * time.Minute)
		if c := f.store.condition(ref); c.State != "" {
			t.Errorf("condition %+v; want none", c)
		}
		stop()
	})
}
