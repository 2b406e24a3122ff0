package publish

import (
	"context"
	"slices"
	"strconv"
	"testing"
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
	c := newCollector(100, 1<<20, 1)
	for range 5 {
		w := newWaiter()
		w.reset(request(item(0), item(1), item(2)), time.Time{})
		if err := c.add(w, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	first, open := c.take(nil, lineNormal, 4)
	second, _ := c.take(nil, lineNormal, 100)
	if len(first) != 2 || len(second) != 3 || !open {
		t.Errorf("took %d and %d requests, want 2 and 3", len(first), len(second))
	}
	c.close()
	c.close()
	c.wait(lineNormal)
	if _, open := c.take(nil, lineNormal, 1); open {
		t.Error("open after close")
	}
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
