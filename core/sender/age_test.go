package sender

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// checkLetters fails unless exactly these deliveries are dead letters, with
// these reasons.
func (f *fixture) checkLetters(want map[string]core.Reason) {
	f.t.Helper()
	letters := f.store.letters()
	for id, reason := range want {
		if letters[id].Reason != reason {
			f.t.Errorf("%s is a dead letter with reason %q; want %q", id, letters[id].Reason, reason)
		}
	}
	if len(letters) != len(want) {
		f.t.Errorf("%d dead letters; want %d", len(letters), len(want))
	}
}

// What is too old when its attempt would start is not sent.
func TestTooOldIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		strict, patient := f.endpoint(1), f.endpoint(2)
		f.store.set(strict, func(e *core.Endpoint) { e.MaxAge = time.Minute })
		b := f.bundle(strict, patient, patient, patient)
		b.Deliveries[2].Event.MaxAge = time.Minute
		b.Deliveries[3].Event.MaxAge = time.Hour
		time.Sleep(time.Minute)
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if n := len(f.poster.all()); n != 2 {
			t.Errorf("%d requests; want those that are young enough", n)
		}
		f.checkLetters(map[string]core.Reason{"whd_000": core.ReasonExpired, "whd_002": core.ReasonExpired})
		f.checkMarked(4)
		for _, row := range f.store.rows() {
			old := row.Delivery == "whd_000" || row.Delivery == "whd_002"
			if old != (row.Reason == core.ReasonExpired) || old != (row.Number == 0) {
				t.Errorf("row %+v", row)
			}
		}
	})
}

// An attempt starts with its first byte, not with its connection.
func TestTooOldOnceConnected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.poster.connect = func(*egress.Target) { time.Sleep(2 * time.Second) }
		b := f.bundle(f.endpoint(1))
		b.Deliveries[0].Event.MaxAge = 2 * time.Second
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if n := len(f.poster.all()); n != 0 {
			t.Errorf("%d requests; want none", n)
		}
		f.checkLetters(map[string]core.Reason{"whd_000": core.ReasonExpired})
		f.checkMarked(1)
	})
}

// What could only be tried again too late does not wait for it.
func TestTooOldForAnotherAttempt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		res     egress.Result
		spoiled bool // no key fits
		reason  core.Reason
		rows    int
	}{
		"failed":           {res: egress.Result{Status: 500}, reason: core.ReasonStatus5xx, rows: 1},
		"cannot be signed": {spoiled: true, reason: core.ReasonExpired, rows: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				f.poster.answer = func(request) egress.Result { return tt.res }
				ref := f.endpoint(1)
				if tt.spoiled {
					f.store.set(ref, func(e *core.Endpoint) { e.Secrets[0].Hash = []byte("another") })
				}
				b := f.bundle(ref)
				b.Deliveries[0].Event.MaxAge = 4 * time.Second // the first wait is 5 s, that for a key 30 s
				if err := f.Handle(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				f.checkLetters(map[string]core.Reason{"whd_000": core.ReasonExpired})
				if n := len(f.queue.retries()) + len(f.queue.deferrals()); n != 0 {
					t.Errorf("%d deliveries wait for nothing", n)
				}
				rows := f.store.rows()
				if len(rows) != tt.rows || rows[0].Reason != tt.reason || rows[0].Status != core.StatusFailed || !rows[0].NextAt.IsZero() {
					t.Errorf("rows %+v; want the attempt's own failure and no further one", rows)
				}
			})
		})
	}
}
