package sender

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

func TestKeyMismatchHolds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*fixture, *core.Endpoint)
	}{
		{name: "unknown kid", change: func(_ *fixture, e *core.Endpoint) { e.Secrets[0].KID = "k9" }},
		{name: "other key", change: func(_ *fixture, e *core.Endpoint) { e.Secrets[0].Salt = make([]byte, 32) }},
		{name: "of an older secret alone", change: func(f *fixture, e *core.Endpoint) {
			_, fresh := f.keyring.NewSecret(e.Ref(), 2, time.Now())
			if err := e.Rotate(fresh, time.Hour, time.Now()); err != nil {
				f.t.Fatal(err)
			}
			e.Secrets[1].KID = "k9"
		}},
		{name: "no secret", change: func(_ *fixture, e *core.Endpoint) { e.Secrets = nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				ref := f.endpoint(1)
				f.store.set(ref, func(e *core.Endpoint) {
					e.Secrets = slices.Clone(e.Secrets)
					tt.change(f, e)
				})
				b := f.bundle(repeat(ref, 3)...)
				b.Deliveries[1].Attempts = 2
				if err := f.Handle(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				if n := len(f.poster.all()); n != 0 {
					t.Errorf("%d requests; want none", n)
				}
				back := f.queue.deferrals()
				if len(back) != 1 || len(back[0].deliveries) != 3 || !back[0].due.Equal(time.Now().Add(holdTime)) {
					t.Fatalf("put back = %+v; want 3 due in %v", back, holdTime)
				}
				for _, d := range back[0].deliveries {
					if d.ID == "whd_001" && d.Attempts != 2 || d.ID != "whd_001" && d.Attempts != 0 {
						t.Errorf("%s has %d attempts; want none spent", d.ID, d.Attempts)
					}
				}
				if rows := f.store.rows(); len(rows) != 0 {
					t.Errorf("rows = %+v; want none", rows)
				}
				f.checkMarked(3)
				if n := strings.Count(f.logs.String(), "signing key mismatch"); n != 1 || !strings.Contains(f.logs.String(), ref.ID) {
					t.Errorf("the log complains %d times; want once:\n%s", n, f.logs)
				}
				checkValue(t, f.reg, "sealpost_sender_key_mismatches_total", "", 3)
			})
		})
	}
}

// A held delivery is given up like any other, and says why.
func TestKeyMismatchGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.Secrets = nil })
		b := f.bundle(ref)
		b.Deliveries[0].Due = time.Now().Add(f.lifetime)
		time.Sleep(f.lifetime)
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if l := f.store.letters()["whd_000"]; l.Reason != core.ReasonSigningKey || l.Delivery.Attempts != 0 {
			t.Errorf("dead letter = %+v; want reason %s", l, core.ReasonSigningKey)
		}
		f.checkMarked(1)
	})
}

func TestEndsWithoutAttempt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		set    func(*fixture, core.EndpointRef, *core.Delivery)
		status core.Status
		reason core.Reason
	}{
		{name: "deleted", set: func(f *fixture, ref core.EndpointRef, _ *core.Delivery) { f.store.delete(ref) }},
		{name: "disabled", set: func(f *fixture, ref core.EndpointRef, _ *core.Delivery) {
			f.store.set(ref, func(e *core.Endpoint) { e.Enabled = false })
		}, status: core.StatusFailed, reason: core.ReasonDisabled},
		{name: "expired", set: func(f *fixture, _ core.EndpointRef, d *core.Delivery) {
			d.Event.AcceptedAt = time.Now().Add(-max(f.lifetime, lateness) - time.Second)
		}, status: core.StatusFailed, reason: core.ReasonExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				ref := f.endpoint(1)
				b := f.bundle(ref)
				b.Deliveries[0].Attempts = 1
				tt.set(f, ref, &b.Deliveries[0])
				if err := f.Handle(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				if n := len(f.poster.all()); n != 0 {
					t.Errorf("%d requests; want none", n)
				}
				f.checkMarked(1)
				rows := f.store.rows()
				if tt.status == "" {
					if len(rows)+len(f.store.letters()) != 0 {
						t.Errorf("calls = %s; want no row and no dead letter", f.trace)
					}
					checkValue(t, f.reg, "sealpost_sender_deliveries_total", "discarded", 1)
					return
				}
				if len(rows) != 1 || rows[0].Status != tt.status || rows[0].Reason != tt.reason ||
					rows[0].Number != 1 || rows[0].ResponseStatus != 0 {
					t.Errorf("rows = %+v", rows)
				}
				if l := f.store.letters()["whd_000"]; l.Reason != tt.reason {
					t.Errorf("dead letter = %+v; want %s", l, tt.reason)
				}
			})
		})
	}
}

func TestRecordsUnavailable(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 5} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, nil)
			f.store.recordsFunc = func(context.Context, []core.EndpointRef) error { return errDown }
			start := time.Now()
			err := f.Handle(t.Context(), f.bundle(repeat(f.endpoint(1), n)...))
			if !errors.Is(err, errDown) {
				t.Errorf("Handle = %v; want %v", err, errDown)
			}
			if took := time.Since(start); took < recordsPatience/2 || took > 2*recordsPatience {
				t.Errorf("gave up after %v; want about %v", took, recordsPatience)
			}
			if times, _ := f.store.marked(); len(times) != 0 || len(f.poster.all()) != 0 {
				t.Errorf("marked %v, %d requests; want none", times, len(f.poster.all()))
			}
			f.checkIdle()
		})
	}
}

// A short failure of Redis between two attempts is waited out.
func TestRecordsUnavailableForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		failures := 3
		f.store.recordsFunc = func(context.Context, []core.EndpointRef) error {
			if failures--; failures >= 0 {
				return errDown
			}
			return nil
		}
		if err := f.Handle(t.Context(), f.bundle(repeat(f.endpoint(1), 5)...)); err != nil {
			t.Fatal(err)
		}
		f.checkMarked(5)
	})
}

// A record that cannot be read again on a ready connection spends no attempt.
func TestRecordUnavailableAtFirstByte(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		reads := 0
		f.store.recordsFunc = func(context.Context, []core.EndpointRef) error {
			if reads++; reads == 2 {
				return errDown
			}
			return nil
		}
		connects := 0
		f.poster.connect = func(*egress.Target) {
			if connects++; connects == 1 {
				time.Sleep(time.Second)
			}
		}
		if err := f.Handle(t.Context(), f.bundle(f.endpoint(1))); err != nil {
			t.Fatal(err)
		}
		if rows := f.store.rows(); len(rows) != 1 || rows[0].Number != 1 || rows[0].Status != core.StatusDelivered {
			t.Errorf("rows = %+v; want one, delivered", rows)
		}
	})
}

// Waiting for a connection does not outlast the time to give up either.
func TestNoConnectionFreeGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.Client = busyPoster{} })
		b := f.bundle(f.endpoint(1))
		time.Sleep(f.lifetime)
		b.Deliveries[0].Due = time.Now()
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if l := f.store.letters()["whd_000"]; l.Reason != core.ReasonExpired {
			t.Errorf("dead letter = %+v; want reason %s", l, core.ReasonExpired)
		}
		f.checkMarked(1)
	})
}

func TestNoConnectionFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.Client = busyPoster{} })
		if err := f.Handle(t.Context(), f.bundle(f.endpoint(1))); err != nil {
			t.Fatal(err)
		}
		back := f.queue.deferrals()
		if len(back) != 1 || back[0].deliveries[0].Attempts != 0 || len(f.store.rows()) != 0 {
			t.Errorf("put back = %+v, rows = %+v; want no attempt spent", back, f.store.rows())
		}
		f.checkMarked(1)
	})
}

// busyPoster has no connection to spare.
type busyPoster struct{}

func (busyPoster) Post(context.Context, time.Time, time.Duration, *egress.Target, egress.Compose) egress.Result {
	return egress.Result{Err: egress.ErrBusy}
}

func (busyPoster) DropIdle(*egress.Target) {}
