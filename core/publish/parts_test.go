package publish

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
)

func sorted(s []string) []string { slices.Sort(s); return s }

func TestFreeze(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 4, 27, 19, 42, 17, 859_999_999, time.FixedZone("", 2*3600))
	tests := []struct {
		name, timestamp, data, want string
	}{
		{"time of acceptance", "", `{"a":1.0}`, `{"type":"call.qualified","timestamp":"2026-04-27T17:42:17.859Z","data":{"a":1.0}}`},
		{"given time", `"2020-01-01T00:00:00+01:00"`, `null`, `{"type":"call.qualified","timestamp":"2020-01-01T00:00:00+01:00","data":null}`},
	}
	for _, tt := range tests {
		var timestamp []byte
		if tt.timestamp != "" {
			timestamp = []byte(tt.timestamp)
		}
		got := Freeze("call.qualified", timestamp, []byte(tt.data), at)
		if string(got) != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if cap(got)-len(got) > 16 {
			t.Errorf("%s: %d bytes are wasted", tt.name, cap(got)-len(got))
		}
	}
}

func TestSnapshotsAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := newSnapshots(10)
	make3 := func() *snapshot {
		return newSnapshot([]core.Endpoint{{ID: "a", Enabled: true, EventTypes: []string{"x", "y"}}, {ID: "b", Drop: true, EventTypes: []string{"x"}}}, "v", now)
	}
	for i := range 4 {
		c.put(strconv.Itoa(i), make3())
		if i > 0 {
			c.get("0", "v", now) // stays in use
		}
	}
	if c.entries != 9 || c.recent.Len() != 3 || len(c.byName) != 3 {
		t.Fatalf("%d entries in %d snapshots", c.entries, c.recent.Len())
	}
	if c.get("0", "v", now) == nil || c.get("1", "v", now) != nil {
		t.Error("it was not the least recently used that went")
	}
	c.put("3", make3()) // replaces
	if c.entries != 9 {
		t.Errorf("%d entries after a replacement, want 9", c.entries)
	}
	large := newSnapshot(make([]core.Endpoint, 0), "v", now)
	large.entries = 100
	c.put("large", large)
	if c.get("large", "v", now) == nil || c.recent.Len() != 1 {
		t.Error("one that is larger than the bound must stay alone")
	}
}

func TestTakeIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(100, 1<<20, 1)
		for i := range 6 {
			w := newWaiter()
			w.reset(request(item(0), item(1), item(2)), time.Time{})
			l, leads, err := c.add(w, time.Now())
			if err != nil || l != lineNormal || leads != (i == 0) {
				t.Fatalf("request %d: line %d, leads: %t, %v", i, l, leads, err)
			}
		}
		var first, second, none []*waiter
		taken := make(chan struct{}, 3)
		take := func(dst *[]*waiter, limit int) {
			*dst = c.take(nil, lineNormal, limit)
			taken <- struct{}{}
		}
		go take(&first, 4)
		synctest.Wait()
		if len(taken) > 0 {
			t.Fatal("a second flush began beside that of the first request")
		}
		c.release(lineNormal, 3, 0)
		<-taken
		c.close()
		c.close()
		go take(&second, 100) // what waits is still taken
		synctest.Wait()
		c.release(lineNormal, 6, 0)
		<-taken
		if len(first) != 2 || len(second) != 3 {
			t.Errorf("took %d and %d requests, want 2 and 3", len(first), len(second))
		}
		take(&none, 1)
		if len(none) > 0 {
			t.Error("took what was not there")
		}
		ended := make(chan struct{})
		go func() {
			c.drained(lineNormal)
			close(ended)
		}()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("drained with a flush in flight")
		default:
		}
		c.release(lineNormal, 9, 0)
		<-ended
	})
}

func BenchmarkPublish(b *testing.B) {
	store, queue := newStubStore(), discard{}
	store.beginFunc = func(context.Context, []string, []core.Reservation, core.Draws) ([]string, []core.ReservationState, error) {
		return []string{"v"}, nil, nil
	}
	store.endpointsFunc = func(context.Context, string) ([]core.Endpoint, string, error) {
		return []core.Endpoint{{ID: "a", Enabled: true, EventTypes: []string{"call.qualified"}}}, "v", nil
	}
	p, err := New(Options{Store: store, Queue: queue, Backlog: &stubBacklog{}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := p.Publish(single("", "{}")); err != nil {
				b.Error(err)
			}
		}
	})
	cancel()
	<-done
}

type discard struct{}

func (discard) EnqueueKeyed(context.Context, []core.Delivery, []core.Keyed) []error { return nil }
