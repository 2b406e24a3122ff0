package publish

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
)

// publishing lets organizations publish at a rate (deliveries a second each) for
// some time, and returns for how long each was above its share.
func publishing(s *shares, now *time.Time, duration time.Duration, rates map[string]int) map[string]time.Duration {
	const step = 20 * time.Millisecond
	above := make(map[string]time.Duration)
	names := make([]string, 0, len(rates))
	for name := range rates {
		names = append(names, name)
	}
	slices.Sort(names)
	for end := now.Add(duration); now.Before(end); *now = now.Add(step) {
		for _, name := range names {
			if s.add(name, int(int64(rates[name])*int64(step)/int64(time.Second)), *now) {
				above[name] += step
			}
		}
	}
	return above
}

func TestShares(t *testing.T) {
	t.Parallel()
	crowd := func(n, rate int) map[string]int {
		rates := make(map[string]int)
		for i := range n {
			rates[fmt.Sprintf("org%02d", i)] = rate
		}
		return rates
	}
	with := func(rates map[string]int, name string, rate int) map[string]int {
		rates[name] = rate
		return rates
	}
	tests := []struct {
		name  string
		rates map[string]int
		above []string // all the time after the first second; nobody else ever
	}{
		{name: "nobody publishes much", rates: crowd(3, 100)},
		{name: "alone and much", rates: crowd(1, 5000), above: []string{"org00"}},
		{name: "ten times as much", rates: with(crowd(1, 500), "flood", 5000), above: []string{"flood"}},
		{name: "ten times as much as one who publishes much", rates: with(crowd(1, 5000), "flood", 50_000), above: []string{"flood"}},
		{name: "one among many", rates: with(crowd(50, 200), "flood", 2000), above: []string{"flood"}},
		{name: "two floods", rates: with(with(crowd(20, 100), "flood", 9000), "other", 4000), above: []string{"flood", "other"}},
		{name: "ten alike", rates: crowd(10, 2000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, now := newShares(), time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
			publishing(s, &now, time.Second, tt.rates)
			const rest = 5 * time.Second
			above := publishing(s, &now, rest, tt.rates)
			for name := range tt.rates {
				want := time.Duration(0)
				if slices.Contains(tt.above, name) {
					want = rest
				}
				if above[name] != want {
					t.Errorf("%s was above its share for %v; want %v of %v", name, above[name], want, rest)
				}
			}
			if s.above != len(tt.above) {
				t.Errorf("%d organizations above their share; want %d", s.above, len(tt.above))
			}
		})
	}
}

// A rate about the border does not change sides all the time, and who has stopped
// is within its share within seconds, and then forgotten.
func TestSharesAreSteady(t *testing.T) {
	t.Parallel()
	s, now := newShares(), time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	publishing(s, &now, 2*time.Second, map[string]int{"flood": 1000})
	for i := range 20 {
		rate := 400 + i%2*400 // a count between 360 and 800
		if above := publishing(s, &now, 200*time.Millisecond, map[string]int{"flood": rate}); above["flood"] != 200*time.Millisecond {
			t.Errorf("at %d a second the flood was above its share for %v only", rate, above["flood"])
		}
	}
	if above := publishing(s, &now, 5*time.Second, map[string]int{"flood": 100}); above["flood"] > 2*time.Second || s.above != 0 {
		t.Errorf("above its share for %v after the flood, %d organizations still", above["flood"], s.above)
	}
	s.decay(now.Add(time.Minute))
	if len(s.counts) != 0 || s.total != 0 {
		t.Errorf("%d organizations are still counted, %g deliveries", len(s.counts), s.total)
	}
}

func TestSharesAreBounded(t *testing.T) {
	t.Parallel()
	s, now := newShares(), time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for i := range 2 * maxCounted {
		s.add(strconv.Itoa(i), 1, now)
	}
	if s.add("flood", 100_000, now) || len(s.counts) != maxCounted {
		t.Errorf("%d organizations are counted; want %d", len(s.counts), maxCounted)
	}
	now = now.Add(time.Second)
	if !s.add("flood", 100_000, now) {
		t.Error("the others have gone and the flood is not counted")
	}
	s.decay(now.Add(time.Minute))
	if s.above != 0 {
		t.Errorf("%d forgotten organizations count as above their share", s.above)
	}
}

// ofOrganization returns r for another organization.
func ofOrganization(name string, r *Request) *Request {
	r.Organization = name
	return r
}

func batchOf(n int) *Request {
	items := make([]Item, n)
	for i := range items {
		items[i] = item(i)
	}
	return request(items...)
}

// A flood has flushes of its own, its deliveries go to the bulk queue, and it
// leaves room: others wait for nothing of it.
func TestFloodHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		store.subscribe("flood", "a", "call.qualified")
		store.subscribe("quiet", "b", "call.qualified")
		gate := make(chan struct{})
		queue.enqueueFunc = func(_ context.Context, ds []core.Delivery) []error {
			if ds[0].Organization == "flood" {
				<-gate
			}
			for _, d := range ds {
				if d.Bulk != (d.Organization == "flood") {
					t.Errorf("a delivery of %s is bulk: %t", d.Organization, d.Bulk)
				}
			}
			return nil
		}
		p := start(t, Options{Store: store, Queue: queue, MaxPending: 2400})
		flooded := make(chan error, 4)
		for range 4 {
			go func() {
				_, err := p.Publish(ofOrganization("flood", batchOf(600)))
				flooded <- err
			}()
			synctest.Wait()
		}
		wantCode(t, <-flooded, core.CodeUnavailable) // the fourth: three quarters of the room are taken
		before := time.Now()
		for range 10 {
			mustPublish(t, p, ofOrganization("quiet", single("", "{}")))
		}
		if took := time.Since(before); took != 0 {
			t.Errorf("others waited for %v", took)
		}
		close(gate)
		for range 3 {
			if err := <-flooded; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if events, bytes := p.collector.pending(); events != 0 || bytes != 0 {
			t.Errorf("%d events and %d bytes are still counted", events, bytes)
		}
		if n := p.collector.above(time.Now()); n != 1 {
			t.Errorf("%d organizations above their share; want the flood", n)
		}
	})
}

// Deliveries count, not events alone.
func TestFanOutCounts(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	for i := range bulkCount + 1 {
		store.subscribe("acme", strconv.Itoa(i), "call.qualified")
	}
	p := start(t, Options{Store: store, Queue: queue})
	for i, bulk := range []bool{false, true} {
		mustPublish(t, p, single("", "{}"))
		if d := queue.calls[i][0]; d.Bulk != bulk {
			t.Errorf("event %d is bulk: %t", i, d.Bulk)
		}
	}
}
