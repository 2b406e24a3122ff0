package sender

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/retry"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	date := now.Add(90 * time.Second).Format("Mon, 02 Jan 2006 15:04:05 GMT")
	tests := []struct {
		name   string
		spent  int           // attempts made before
		age    time.Duration // since accept
		res    egress.Result
		status core.Status
		reason core.Reason
		step   step
		wait   time.Duration    // until the retry
		limits [2]time.Duration // max_age of event and endpoint
		aged   bool
	}{
		{name: "500, too old at the next attempt", age: time.Minute, limits: [2]time.Duration{65 * time.Second}, res: egress.Result{Status: 500}, status: core.StatusFailed, reason: core.ReasonStatus5xx, step: stepDead, aged: true},
		{name: "500, too old for the endpoint", age: time.Minute, limits: [2]time.Duration{time.Hour, 65 * time.Second}, res: egress.Result{Status: 500}, status: core.StatusFailed, reason: core.ReasonStatus5xx, step: stepDead, aged: true},
		{name: "500, just young enough", age: time.Minute, limits: [2]time.Duration{65001 * time.Millisecond, time.Hour}, res: egress.Result{Status: 500}, status: core.StatusRetrying, reason: core.ReasonStatus5xx, step: stepRetry, wait: 5 * time.Second},
		{name: "Retry-After beyond the age", limits: [2]time.Duration{59 * time.Second}, res: egress.Result{Status: 503, RetryAfter: "60"}, status: core.StatusFailed, reason: core.ReasonStatus5xx, step: stepDead, aged: true},
		{name: "500, last and too old", spent: 4, limits: [2]time.Duration{time.Second}, res: egress.Result{Status: 500}, status: core.StatusFailed, reason: core.ReasonStatus5xx, step: stepDead},
		{name: "success of an old one", age: time.Minute, limits: [2]time.Duration{time.Second}, res: egress.Result{Status: 200}, status: core.StatusDelivered},
		{name: "200", res: egress.Result{Status: 200}, status: core.StatusDelivered},
		{name: "299", res: egress.Result{Status: 299}, status: core.StatusDelivered},
		{name: "late success", age: f.lifetime * 2, res: egress.Result{Status: 200}, status: core.StatusDelivered},
		{name: "302", res: egress.Result{Status: 302}, status: core.StatusRetrying, reason: core.ReasonRedirect, step: stepRetry, wait: 5 * time.Second},
		{name: "404", res: egress.Result{Status: 404}, status: core.StatusRetrying, reason: core.ReasonStatus4xx, step: stepRetry, wait: 5 * time.Second},
		{name: "500, second", spent: 1, res: egress.Result{Status: 500}, status: core.StatusRetrying, reason: core.ReasonStatus5xx, step: stepRetry, wait: 20 * time.Second},
		{name: "500, fourth", spent: 3, res: egress.Result{Status: 500}, status: core.StatusRetrying, reason: core.ReasonStatus5xx, step: stepRetry, wait: 320 * time.Second},
		{name: "500, last", spent: 4, res: egress.Result{Status: 500}, status: core.StatusFailed, reason: core.ReasonStatus5xx, step: stepDead},
		{name: "500, beyond the last", spent: 9, res: egress.Result{Status: 500}, status: core.StatusFailed, reason: core.ReasonStatus5xx, step: stepDead},
		{name: "500, too late", age: f.lifetime, res: egress.Result{Status: 500}, status: core.StatusFailed, reason: core.ReasonStatus5xx, step: stepDead},
		{name: "500, just in time", age: f.lifetime - time.Second, res: egress.Result{Status: 500}, status: core.StatusRetrying, reason: core.ReasonStatus5xx, step: stepRetry, wait: 5 * time.Second},
		{name: "410", res: egress.Result{Status: 410}, status: core.StatusFailed, reason: core.ReasonStatus410, step: stepDead},
		{name: "429 with seconds", res: egress.Result{Status: 429, RetryAfter: "60"}, status: core.StatusRetrying, reason: core.ReasonStatus429, step: stepRetry, wait: time.Minute},
		{name: "503 with date", res: egress.Result{Status: 503, RetryAfter: date}, status: core.StatusRetrying, reason: core.ReasonStatus5xx, step: stepRetry, wait: 90 * time.Second},
		{name: "Retry-After shorter than the schedule", spent: 2, res: egress.Result{Status: 503, RetryAfter: "1"}, status: core.StatusRetrying, reason: core.ReasonStatus5xx, step: stepRetry, wait: 80 * time.Second},
		{name: "Retry-After beyond its cap", res: egress.Result{Status: 503, RetryAfter: "86400"}, status: core.StatusRetrying, reason: core.ReasonStatus5xx, step: stepRetry, wait: retry.MaxRetryAfter},
		{name: "Retry-After is nonsense", res: egress.Result{Status: 503, RetryAfter: "soon"}, status: core.StatusRetrying, reason: core.ReasonStatus5xx, step: stepRetry, wait: 5 * time.Second},
		{name: "timeout", res: egress.Result{Reason: core.ReasonTimeout}, status: core.StatusRetrying, reason: core.ReasonTimeout, step: stepRetry, wait: 5 * time.Second},
		{name: "blocked", res: egress.Result{Reason: core.ReasonBlocked}, status: core.StatusRetrying, reason: core.ReasonBlocked, step: stepRetry, wait: 5 * time.Second},
		{name: "cut off, not sent again", res: egress.Result{Started: true, Err: errChanged}, status: core.StatusRetrying, reason: core.ReasonConnectionLost, step: stepRetry, wait: 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := core.Delivery{
				ID: "whd_1", Organization: testOrg, Endpoint: "ep", Attempts: tt.spent, Due: now,
				Event: &core.Event{ID: "evt_1", Type: "lead.created", AcceptedAt: now.Add(-tt.age), MaxAge: tt.limits[0]},
			}
			rec := &record{endpoint: &core.Endpoint{URLRevision: 7, MaxAge: tt.limits[1]}}
			v := f.judge(&d, rec, &tt.res, express, now.Add(-time.Second), now)

			var next time.Time
			if tt.step == stepRetry {
				next = now.Add(tt.wait)
			}
			want := core.Attempt{
				Delivery: "whd_1", Event: "evt_1", EventType: "lead.created", Endpoint: "ep", Number: tt.spent + 1,
				Status: tt.status, ResponseStatus: tt.res.Status, Reason: tt.reason,
				StartedAt: now.Add(-time.Second), Latency: time.Second, NextAt: next,
			}
			if diff := cmp.Diff(want, v.row); diff != "" || !v.hasRow {
				t.Error(diff)
			}
			if v.step != tt.step || v.delivery.Attempts != tt.spent+1 || !v.delivery.Due.Equal(next) {
				t.Errorf("step %d, attempts %d, due %v; want %d, %d, %v",
					v.step, v.delivery.Attempts, v.delivery.Due, tt.step, tt.spent+1, next)
			}
			if v.aged != tt.aged {
				t.Errorf("aged = %t", v.aged)
			}
			if tt.res.Status == 410 && v.revision != 7 {
				t.Errorf("revision = %d; want the answering one", v.revision)
			}
			if d.Attempts != tt.spent {
				t.Error("the bundle's delivery was changed")
			}
		})
	}
}

// A due time is never rounded to an earlier one.
func TestNextDueRoundsUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	now := time.Unix(1000, 1)
	d := core.Delivery{Attempts: 1, Event: &core.Event{AcceptedAt: now}}
	due, ok := f.nextDue(&d, "", express, now)
	if want := time.Unix(1005, int64(time.Millisecond)); !ok || !due.Equal(want) {
		t.Errorf("nextDue = %v, %t; want %v", due, ok, want)
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	accepted := time.Unix(1000, 0)
	end := accepted.Add(f.lifetime)
	tests := []struct {
		name string
		due  time.Time
		now  time.Time
		want bool
	}{
		{name: "fresh", now: accepted},
		{name: "fresh, just in time", now: end.Add(-time.Second)},
		{name: "fresh, after the end of a short schedule", now: end.Add(time.Second)},
		{name: "fresh, too late", now: accepted.Add(lateness + time.Second), want: true},
		{name: "due before the end, at once", due: end.Add(-time.Second), now: end.Add(time.Second)},
		{name: "due after the end, at once", due: end.Add(30 * time.Minute), now: end.Add(31 * time.Minute)},
		{name: "due before the end, found much later", due: end.Add(-time.Second), now: end.Add(lateness + time.Second), want: true},
		{name: "due long ago, in time", due: accepted.Add(time.Second), now: end.Add(-time.Second)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := core.Delivery{Due: tt.due, Event: &core.Event{AcceptedAt: accepted}}
			if got := f.expired(&d, express, tt.now); got != tt.want {
				t.Errorf("expired = %t; want %t", got, tt.want)
			}
		})
	}
}

// The time of a replay counts from the replay, however old its event is.
func TestReplayHasItsOwnTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	now := time.Unix(1e9, 0)
	old := core.Delivery{ID: core.NewDeliveryID(now.Add(-30 * 24 * time.Hour)), Event: &core.Event{AcceptedAt: now.Add(-30 * 24 * time.Hour)}}
	again := old.Replay(now)
	waits := max(f.lifetime, f.backlogRetention)
	for _, tt := range []struct {
		name string
		d    core.Delivery
		via  way
		now  time.Time
		want bool
	}{
		{"old in a backlog", old, fromBacklog, now, true},
		{"replayed in a backlog", again, fromBacklog, now.Add(waits - time.Second), false},
		{"replayed in a backlog, too late", again, fromBacklog, now.Add(waits), true},
	} {
		if got := f.expired(&tt.d, tt.via, tt.now); got != tt.want {
			t.Errorf("%s: expired = %t; want %t", tt.name, got, tt.want)
		}
	}
	failed := func(d core.Delivery) bool {
		d.Attempts = 1
		_, ok := f.nextDue(&d, "", express, now)
		return !ok
	}
	if !failed(old) || failed(again) {
		t.Errorf("after a failure the old one is given up: %t, the replay: %t", failed(old), failed(again))
	}
}

// A schedule whose attempts all fail late and whose waits are all drawn long is
// still used up: time does not cut it short.
func TestLifetimeAllowsEveryAttempt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) {
		o.Schedule = retry.Default()
		o.Rand = func() float64 { return 0.999 }
	})
	now := time.Unix(1000, 0)
	d := core.Delivery{Event: &core.Event{AcceptedAt: now}}
	for n := 1; n <= 12; n++ {
		if f.expired(&d, express, now) {
			t.Fatalf("expired before attempt %d", n)
		}
		now = now.Add(15 * time.Second)
		v := f.judge(&d, &record{endpoint: &core.Endpoint{}}, &egress.Result{Reason: core.ReasonTimeout}, express, now, now)
		if (v.step == stepRetry) != (n < 12) {
			t.Fatalf("attempt %d: step %d", n, v.step)
		}
		d, now = v.delivery, v.delivery.Due
	}
}
