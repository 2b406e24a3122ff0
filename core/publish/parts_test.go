package publish

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
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
			*dst = c.take(nil, lineNormal, limit, time.Sleep)
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

// Where many requests come a flush waits for more of them, but not where few come, nor
// where they fill a bundle.
func TestTakeLingers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name             string
		requests, events int // of each flush; of each request
		lingers          bool
	}{
		{name: "few", requests: lingerFrom - 1, events: 1},
		{name: "many", requests: lingerFrom + 1, events: 1, lingers: true},
		{name: "batches", requests: lingerFrom + 1, events: lingerBelow/lingerFrom + 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCollector(1000, 1<<20, 1)
				n := 0
				add := func(events int) {
					r := request(make([]Item, events)...)
					r.Organization = fmt.Sprint(n) // so that none is above its share
					n++
					w := newWaiter()
					w.reset(r, time.Time{})
					if _, _, err := c.add(w, time.Now()); err != nil {
						t.Error(err)
					}
				}
				add(1) // leads
				events := 1
				for range 10 * lingerOver {
					for range tt.requests {
						add(tt.events)
					}
					c.release(lineNormal, events, 0)
					events = tt.requests * tt.events
					if n := len(c.take(nil, lineNormal, 4096, time.Sleep)); n != tt.requests {
						t.Fatalf("took %d requests; want %d", n, tt.requests)
					}
				}
				for range tt.requests {
					add(tt.events)
				}
				c.release(lineNormal, events, 0)
				go func() {
					time.Sleep(lingerTime / 2)
					add(1)
				}()
				want, wait := tt.requests, time.Duration(0)
				if tt.lingers {
					want, wait = want+1, lingerTime
				}
				start := time.Now()
				if n := len(c.take(nil, lineNormal, 4096, time.Sleep)); n != want || time.Since(start) != wait {
					t.Errorf("took %d requests after %v; want %d after %v", n, time.Since(start), want, wait)
				}
				time.Sleep(lingerTime)
			})
		})
	}
}

// Of two flushes that wait for more requests the first may take them all: the other one
// goes on waiting, and ends with the collector.
func TestTakeLingersTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(1000, 1<<20, 2)
		c.lines[lineNormal].depth = 2 * lingerFrom
		add := func() {
			w := newWaiter()
			w.reset(request(item(0)), time.Time{})
			if _, _, err := c.add(w, time.Now()); err != nil {
				t.Error(err)
			}
		}
		taken := make(chan int, 4)
		var takers sync.WaitGroup
		for range 2 {
			takers.Go(func() {
				for {
					n := len(c.take(nil, lineNormal, 4096, time.Sleep))
					taken <- n
					if n == 0 {
						return
					}
					c.release(lineNormal, n, 0)
				}
			})
		}
		add() // leads, as does the next one
		add()
		add() // waits for a flush
		c.release(lineNormal, 1, 0)
		time.Sleep(lingerTime / 2)
		add() // wakes the other taker
		c.release(lineNormal, 1, 0)
		add()
		if n := <-taken; n != 3 {
			t.Errorf("took %d requests; want 3", n)
		}
		time.Sleep(2 * lingerTime)
		if len(taken) > 0 {
			t.Errorf("a flush of %d requests began", <-taken)
		}
		c.close()
		takers.Wait()
		c.drained(lineNormal)
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
