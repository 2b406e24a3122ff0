package queue

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

func TestRetry(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.producer()
	ctx := t.Context()
	now := time.Now()
	ds := fanOut(event("evt_1", 0), 3)
	ds[0].Attempts, ds[0].Due = 1, now.Add(10*time.Second+time.Millisecond)
	ds[1].Attempts, ds[1].Due = 2, now.Add(-time.Second)
	ds[2].Attempts, ds[2].Due = 3, now.Add(time.Hour)
	ds[2].Event = &core.Event{ID: "evt_2", Type: "call.received", Body: []byte(strings.Repeat("0123456789abcdef"+core.NewToken(), 300))}
	for range 2 { // a second call, as after a lost lease, changes nothing
		if errs := p.Retry(ctx, ds); errs != nil {
			t.Fatal(errs)
		}
	}
	if got := f.pendingBundle(retryQueue); got != ds[1].ID+":2" {
		t.Errorf("pending %s; want %s:2", got, ds[1].ID)
	}
	scheduled, err := f.client.ZRangeWithScores(ctx, asynqKey(retryQueue, scheduledSuffix), 0, -1).Result()
	if err != nil || len(scheduled) != 2 {
		t.Fatalf("scheduled %v, %v; want 2", scheduled, err)
	}
	for i, d := range []core.Delivery{ds[0], ds[2]} {
		if scheduled[i].Member != retryID(&d) {
			t.Errorf("scheduled %v; want %s", scheduled[i].Member, retryID(&d))
		}
		at := time.Unix(int64(scheduled[i].Score), 0)
		if late := at.Sub(d.Due); late < 0 || late >= time.Second {
			t.Errorf("%s runs %v after it is due; want 0 to 1s", retryID(&d), late)
		}
	}
	if d, _ := f.stats(); d.Pending+d.Scheduled != 0 {
		t.Errorf("retries in the deliver queue: %+v", d)
	}
}

func TestRetryErrorsAreParallel(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ds := fanOut(event("evt_1", 0), 3)
	ds[1].Event = tooLarge()
	errs := f.producer().Retry(t.Context(), ds)
	if len(errs) != 3 || errs[0] != nil || core.CodeOf(errs[1]) != core.CodeTooLarge || errs[2] != nil {
		t.Errorf("Retry = %v; want an error for the second only", errs)
	}
}

func TestDefer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		due       time.Duration // from now; 0: none given
		own       time.Duration // Due of the deliveries; 0: none
		scheduled bool
	}{
		{name: "at once"},
		{name: "past", due: -time.Hour},
		{name: "later", due: time.Hour, scheduled: true},
		{name: "later by itself", own: time.Hour, scheduled: true},
		{name: "the later of both", due: time.Minute, own: time.Hour, scheduled: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			ds := fanOut(event("evt_1", 0), 5)
			now := time.Now()
			var due time.Time
			if tt.due != 0 {
				due = now.Add(tt.due)
			}
			if tt.own != 0 {
				ds[3].Due = now.Add(tt.own)
			}
			before := append([]core.Delivery(nil), ds...)
			if err := f.producer().Defer(t.Context(), ds, due); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, ds); diff != "" {
				t.Errorf("Defer changed its argument:\n%s", diff)
			}
			if !tt.scheduled {
				f.pendingBundle("deliver-00")
				return
			}
			scheduled, err := f.client.ZRangeWithScores(t.Context(), asynqKey(retryQueue, scheduledSuffix), 0, -1).Result()
			if err != nil || len(scheduled) != 1 {
				t.Fatalf("scheduled %v, %v; want 1", scheduled, err)
			}
			want := now.Add(max(tt.due, tt.own))
			if at := time.Unix(int64(scheduled[0].Score), 0); at.Before(want) || at.Sub(want) >= time.Second {
				t.Errorf("runs at %v; want the second after %v", at, want)
			}
			id, _ := scheduled[0].Member.(string)
			if ttl := f.client.TTL(t.Context(), blobKey(retryQueue, id)).Val(); ttl < blobTTL {
				t.Errorf("the blob lives %v; want 30 days from when it is due", ttl)
			}
		})
	}
}
