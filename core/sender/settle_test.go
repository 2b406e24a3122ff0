package sender

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/pace"
)

var errDown = errors.New("redis is down")

func TestRecordIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		failures := 3
		var repeated []bool
		f.store.recordFunc = func(r core.Record) error {
			repeated = append(repeated, r.Repeated)
			if failures--; failures >= 0 {
				return errDown
			}
			return nil
		}
		if err := f.Handle(t.Context(), f.bundle(f.endpoint(1))); err != nil {
			t.Fatal(err)
		}
		if want := []bool{false, true, true, true}; !slices.Equal(repeated, want) {
			t.Errorf("Repeated = %v; want %v", repeated, want)
		}
		if n := len(f.poster.all()); n != 1 {
			t.Errorf("%d requests; want 1", n)
		}
		f.checkMarked(1)
	})
}

// One retry task that cannot be stored holds up neither the others' marks nor
// is it marked before it is stored.
func TestFailingRetryHoldsUpItselfAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 500} }
		var down atomic.Bool
		down.Store(true)
		f.queue.retryFunc = func(ds []core.Delivery) []error {
			errs := make([]error, len(ds))
			for i, d := range ds {
				if d.ID == "whd_001" && down.Load() {
					errs[i] = errDown
				}
			}
			return errs
		}
		done := make(chan error, 1)
		go func() { done <- f.Handle(t.Context(), f.bundle(repeat(f.endpoint(1), 3)...)) }()
		time.Sleep(5 * time.Second)
		if times, all := f.store.marked(); len(times) != 2 || times[1] != 0 || all {
			t.Errorf("marked %v, all %t; want 0 and 2", times, all)
		}
		down.Store(false)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.checkMarked(3)
		if n := len(f.queue.retries()); n != 3 {
			t.Errorf("%d retry tasks; want 3", n)
		}
	})
}

// The last mark ends the task: of one delivery, of several, and of what an earlier
// run has settled.
func TestLastMarkEndsTheTask(t *testing.T) {
	t.Parallel()
	for _, settled := range []int{0, 1, 2} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, nil)
			b := f.bundle(repeat(f.endpoint(1), 2)...)
			b.Settled = make([]bool, 2)
			for i := range settled {
				b.Settled[i] = true
			}
			ended := false
			f.store.recordFunc = func(r core.Record) error {
				ended = ended || slices.ContainsFunc(r.Marks, func(m core.Mark) bool { return m.All })
				if b.Ended {
					t.Error("it is said to have ended before")
				}
				return nil
			}
			if err := f.Handle(t.Context(), b); err != nil || !b.Ended || !ended {
				t.Errorf("%d settled before: %v, ended: %t, last mark: %t", settled, err, b.Ended, ended)
			}
		})
	}
}

func TestSettlingEndsInAnError(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		spent  int
		ask    bool // to disable the endpoint
		set    func(*fixture)
	}{
		{name: "disable, delivered", status: 200, ask: true, set: func(f *fixture) {
			f.store.updateFunc = func(core.EndpointRef) error { return core.Unavailable("x", errDown) }
		}},
		{name: "record", status: 200, set: func(f *fixture) {
			f.store.recordFunc = func(core.Record) error { return errDown }
		}},
		{name: "retry", status: 500, set: func(f *fixture) {
			f.queue.retryFunc = func(ds []core.Delivery) []error { return slices.Repeat([]error{errDown}, len(ds)) }
		}},
		{name: "dead letter", status: 500, spent: 4, set: func(f *fixture) {
			f.store.deadFunc = func([]core.DeadLetter) error { return errDown }
		}},
		{name: "disable", status: 410, set: func(f *fixture) {
			f.store.updateFunc = func(core.EndpointRef) error { return core.Unavailable("x", errDown) }
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				f.poster.answer = func(request) egress.Result { return egress.Result{Status: tt.status, Disable: tt.ask} }
				tt.set(f)
				b := f.bundle(repeat(f.endpoint(1), 2)...)
				for i := range b.Deliveries {
					b.Deliveries[i].Attempts = tt.spent
				}
				start := time.Now()
				if err := f.Handle(t.Context(), b); !errors.Is(err, errDown) || b.Ended {
					t.Errorf("Handle = %v, ended: %t; want %v, not ended", err, b.Ended, errDown)
				}
				if took := time.Since(start); took < settlePatience || took > 2*settlePatience {
					t.Errorf("gave up after %v; want about %v", took, settlePatience)
				}
				if times, _ := f.store.marked(); len(times) != 0 {
					t.Errorf("marked %v; want none", times)
				}
				f.checkIdle()
			})
		})
	}
}

// When settling fails for good while attempts run, nothing new is started, and
// what ends meanwhile is offered once more.
func TestSettlingFailsWhileAttemptsRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.PerEndpoint = 2 })
		f.poster.answer = func(request) egress.Result {
			time.Sleep(pace.SlowAfter - time.Millisecond)
			return egress.Result{Status: 200}
		}
		// Down until the first settling, of what ended in the first second, was given
		// up; up again within the patience of the last one.
		up := time.Now().Add(settlePatience + lastPatience/2)
		f.store.recordFunc = func(core.Record) error {
			if time.Now().Before(up) {
				return errDown
			}
			return nil
		}
		err := f.Handle(t.Context(), f.bundle(repeat(f.endpoint(1), 200)...))
		if !errors.Is(err, errDown) {
			t.Fatalf("Handle = %v; want %v", err, errDown)
		}
		sent := len(f.poster.all())
		if times, all := f.store.marked(); len(times) != sent || all || sent == 200 {
			t.Errorf("%d sent, %d marked, all %t; want every one of some", sent, len(times), all)
		}
		f.checkIdle()
	})
}

func TestGoneDisablesTheEndpoint(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		meantime func(*core.Endpoint)
		enabled  bool
		by       core.Reason
		updates  int // of the endpoint, by us
	}{
		{name: "as answered", meantime: func(*core.Endpoint) {}, by: core.ReasonStatus410, updates: 1},
		{name: "moved", meantime: func(e *core.Endpoint) { e.URL = "https://new.example.com/" }, enabled: true},
		{name: "changed otherwise", meantime: func(e *core.Endpoint) { e.Description = "x" }, by: core.ReasonStatus410, updates: 1},
		{name: "disabled by request", meantime: func(e *core.Endpoint) { e.Enabled = false }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				ref := f.endpoint(1)
				f.poster.answer = func(request) egress.Result {
					time.Sleep(time.Second) // until all three are in flight
					f.store.set(ref, tt.meantime)
					return egress.Result{Status: 410}
				}
				if err := f.Handle(t.Context(), f.bundle(repeat(ref, 3)...)); err != nil {
					t.Fatal(err)
				}
				if e := f.store.endpoint(ref); e.Enabled != tt.enabled || e.DisabledBy != tt.by {
					t.Errorf("enabled %t, by %q; want %t, %q", e.Enabled, e.DisabledBy, tt.enabled, tt.by)
				}
				if n := strings.Count(f.trace.String(), "update"); n != tt.updates {
					t.Errorf("the endpoint was updated %d times, want %d", n, tt.updates)
				}
				if letters := f.store.letters(); len(letters) != 3 || letters["whd_000"].Reason != core.ReasonStatus410 {
					t.Errorf("dead letters = %+v; want 3", letters)
				}
				for _, row := range f.store.rows() {
					if row.Status != core.StatusFailed || row.ResponseStatus != 410 || row.Reason != core.ReasonStatus410 {
						t.Errorf("row = %+v", row)
					}
				}
				f.checkMarked(3)
			})
		})
	}
}

// A response may ask to disable the endpoint whatever its status is.
func TestDisableAsked(t *testing.T) {
	t.Parallel()
	moved := func(e *core.Endpoint) { e.URL = "https://new.example.com/" }
	tests := []struct {
		name    string
		status  int
		change  func(*core.Endpoint) // meanwhile
		enabled bool
		by      core.Reason
		row     core.Status
		reason  core.Reason
	}{
		{name: "delivered", status: 204, by: core.ReasonDisableAsked, row: core.StatusDelivered},
		{name: "delivered, moved", status: 204, change: moved, enabled: true, row: core.StatusDelivered},
		{name: "delivered, disabled by request", status: 200, change: func(e *core.Endpoint) { e.Enabled = false }, row: core.StatusDelivered},
		{name: "failed", status: 503, by: core.ReasonDisableAsked, row: core.StatusFailed, reason: core.ReasonDisableAsked},
		{name: "redirected", status: 302, by: core.ReasonDisableAsked, row: core.StatusFailed, reason: core.ReasonDisableAsked},
		{name: "failed, moved", status: 503, change: moved, enabled: true, row: core.StatusFailed, reason: core.ReasonDisableAsked},
		{name: "410", status: 410, by: core.ReasonStatus410, row: core.StatusFailed, reason: core.ReasonStatus410},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				ref := f.endpoint(1)
				f.poster.answer = func(request) egress.Result {
					time.Sleep(time.Second) // until the record is not fresh any more
					if tt.change != nil {
						f.store.set(ref, tt.change)
					}
					return egress.Result{Status: tt.status, Disable: true}
				}
				if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
					t.Fatal(err)
				}
				if e := f.store.endpoint(ref); e.Enabled != tt.enabled || e.DisabledBy != tt.by {
					t.Errorf("enabled %t, by %q; want %t, %q", e.Enabled, e.DisabledBy, tt.enabled, tt.by)
				}
				rows := f.store.rows()
				if len(rows) != 1 || rows[0].Status != tt.row || rows[0].Reason != tt.reason || rows[0].ResponseStatus != tt.status {
					t.Errorf("rows %+v", rows)
				}
				letters, want := f.store.letters(), 0
				if tt.row == core.StatusFailed {
					want = 1
				}
				if len(letters) != want || letters["whd_000"].Reason != tt.reason || len(f.queue.retries()) != 0 {
					t.Errorf("dead letters %+v, retries %v", letters, f.queue.retries())
				}
				f.checkMarked(1)
			})
		})
	}
}

// What was delivered stays so although its endpoint is deleted at the moment in
// which it is to be disabled.
func TestDisableAskedOfDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 200, Disable: true} }
		f.store.updateFunc = func(core.EndpointRef) error {
			f.store.delete(ref)
			return nil
		}
		if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
			t.Fatal(err)
		}
		if rows, letters := f.store.rows(), f.store.letters(); len(rows)+len(letters) != 0 {
			t.Errorf("rows %+v, dead letters %+v; want none", rows, letters)
		}
		f.checkMarked(1)
	})
}

// A 410, or asking, stops the rest of the bundle.
func TestGoneStopsTheRest(t *testing.T) {
	t.Parallel()
	t.Run("asked", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, func(o *Options) { o.PerEndpoint = 1 })
			f.poster.answer = func(request) egress.Result {
				time.Sleep(10 * time.Millisecond)
				return egress.Result{Status: 200, Disable: true}
			}
			if err := f.Handle(t.Context(), f.bundle(repeat(f.endpoint(1), 20)...)); err != nil {
				t.Fatal(err)
			}
			sent := len(f.poster.all())
			if letters := f.store.letters(); sent > 8 || len(letters) != 20-sent { // results wait for each other up to 50 ms
				t.Errorf("%d requests, %d dead letters; want at most 8, and the rest dead", sent, len(letters))
			}
			f.checkMarked(20)
		})
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.PerEndpoint = 1 })
		f.poster.answer = func(request) egress.Result {
			time.Sleep(10 * time.Millisecond)
			return egress.Result{Status: 410}
		}
		if err := f.Handle(t.Context(), f.bundle(repeat(f.endpoint(1), 20)...)); err != nil {
			t.Fatal(err)
		}
		if n := len(f.poster.all()); n > 2 {
			t.Errorf("%d requests; want at most 2", n)
		}
		reasons := make(map[core.Reason]int)
		for _, l := range f.store.letters() {
			reasons[l.Reason]++
		}
		if reasons[core.ReasonStatus410]+reasons[core.ReasonDisabled] != 20 {
			t.Errorf("dead letters by reason = %v; want 20", reasons)
		}
		f.checkMarked(20)
	})
}

// An endpoint deleted while its request runs gets no retry, no dead letter and
// no log.
func TestDeletedWhileInFlight(t *testing.T) {
	t.Parallel()
	for _, status := range []int{204, 500, 410} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				ref := f.endpoint(1)
				f.poster.answer = func(request) egress.Result {
					f.store.delete(ref)
					time.Sleep(core.ChangeDelay)
					return egress.Result{Status: status}
				}
				if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
					t.Fatal(err)
				}
				if n := len(f.queue.retries()) + len(f.store.letters()) + len(f.store.rows()); n != 0 {
					t.Errorf("calls = %s; want no retry, dead letter or row", f.trace)
				}
				f.checkMarked(1)
			})
		})
	}
}

// The endpoint moves between the check and the disabling.
func TestMovedWhileDisabling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 410} }
		f.store.updateFunc = func(core.EndpointRef) error {
			f.store.set(ref, func(e *core.Endpoint) { e.URL = "https://new.example.com/" })
			return nil
		}
		if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
			t.Fatal(err)
		}
		if e := f.store.endpoint(ref); !e.Enabled || e.DisabledBy != "" {
			t.Errorf("enabled %t, by %q; want an enabled endpoint", e.Enabled, e.DisabledBy)
		}
		f.checkMarked(1)
	})
}

// The endpoint vanishes between the check and the disabling.
func TestDeletedWhileDisabling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 410} }
		f.store.updateFunc = func(ref core.EndpointRef) error { return core.NotFound("webhook") }
		if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
			t.Fatal(err)
		}
		if n := len(f.store.letters()) + len(f.store.rows()); n != 0 {
			t.Errorf("calls = %s; want no dead letter or row", f.trace)
		}
		f.checkMarked(1)
	})
}

// A crash is simulated by failing every call from the nth on. Whatever n is, a
// second run with what was marked must leave no delivery without an outcome.
func TestCrashAtAnyCallLosesNothing(t *testing.T) {
	t.Parallel()
	const size = 12
	statuses := []int{200, 500, 410, 200}
	for crash := range 12 {
		t.Run(fmt.Sprint(crash), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				var calls atomic.Int64
				call := func() error {
					if calls.Add(1) > int64(crash) {
						return errDown
					}
					return nil
				}
				up := func() { calls.Store(-1000) }
				f.store.recordFunc = func(core.Record) error { return call() }
				f.store.deadFunc = func([]core.DeadLetter) error { return call() }
				f.store.updateFunc = func(core.EndpointRef) error { return call() }
				f.queue.retryFunc = func(ds []core.Delivery) []error {
					errs := make([]error, len(ds))
					for i := range errs {
						errs[i] = call()
					}
					return errs
				}
				refs := make([]core.EndpointRef, size)
				for i := range refs {
					refs[i] = f.endpoint(i % len(statuses))
				}
				f.poster.answer = func(r request) egress.Result {
					var n int
					fmt.Sscanf(r.header.Get("Webhook-Id"), "evt_%d", &n)
					time.Sleep(time.Duration(n) * 40 * time.Millisecond) // several settlings
					return egress.Result{Status: statuses[n%len(statuses)]}
				}
				b := f.bundle(refs...)
				b.Deliveries[1].Attempts = 4 // its failure is the last
				first := f.Handle(t.Context(), b)
				up()
				times, all := f.store.marked()
				if first == nil != all {
					t.Errorf("Handle = %v, all marked %t", first, all)
				}
				for i := range times {
					b.Settled[i] = true
				}
				if err := f.Handle(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				f.checkOutcomes(b, statuses)
			})
		})
	}
}

// checkOutcomes fails unless every delivery of b was delivered, or is kept as a
// retry or a dead letter, as its status demands.
func (f *fixture) checkOutcomes(b *core.Bundle, statuses []int) {
	f.t.Helper()
	delivered := make(map[string]bool)
	for _, row := range f.store.rows() {
		delivered[row.Delivery] = delivered[row.Delivery] || row.Status == core.StatusDelivered
	}
	retries, letters := f.queue.retries(), f.store.letters()
	for i := range b.Deliveries {
		d := &b.Deliveries[i]
		_, retried := retries[fmt.Sprintf("%s:%d", d.ID, d.Attempts+1)]
		_, dead := letters[d.ID]
		var ok bool
		switch status := statuses[i%len(statuses)]; {
		case status == 200:
			ok = delivered[d.ID]
		case status == 500 && d.Attempts == 0:
			ok = retried
		default:
			ok = dead
		}
		if !ok {
			f.t.Errorf("delivery %d is lost: delivered %t, retried %t, dead %t", i, delivered[d.ID], retried, dead)
		}
	}
	times, all := f.store.marked()
	if len(times) != len(b.Deliveries) || !all {
		f.t.Errorf("%d marked, all %t; want %d", len(times), all, len(b.Deliveries))
	}
}
