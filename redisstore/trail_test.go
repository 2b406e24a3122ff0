package redisstore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

func TestEventTrails(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		row := func(endpoint, delivery, event string, number int, status core.Status) core.Attempt {
			return core.Attempt{
				Delivery: delivery, Event: event, EventType: "call.received", Endpoint: endpoint, Number: number, Status: status,
				StartedAt: instant(number), Latency: time.Millisecond,
			}
		}
		retrying, failed := row("a", "whd_1", "evt_1", 1, core.StatusRetrying), row("a", "whd_1", "evt_1", 2, core.StatusFailed)
		replayed, delivered := row("a", "whd_9", "evt_1", 3, core.StatusDelivered), row("b", "whd_2", "evt_1", 1, core.StatusDelivered)
		noError(t, s.Record(ctx, core.Record{Attempts: []core.Attempt{
			retrying, failed, replayed, row("a", "evt_1", "evt_2", 4, core.StatusFailed), delivered, row("c", "whd_3", "evt_11", 1, core.StatusDelivered),
		}}))
		letter := deadLetter("a", 1, 10)
		noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{letter}))
		got, err := s.EventTrails(ctx, []string{"c", "b", "a", "d"}, "evt_1")
		noError(t, err)
		want := []core.EventTrail{
			{Endpoint: "b", Attempts: []core.Attempt{delivered}},
			{Endpoint: "a", Attempts: []core.Attempt{replayed, failed, retrying}, Dead: []string{"whd_1"}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("trails (-want +got):\n%s", diff)
		}
		for _, unknown := range []string{"evt_3", "evt", "vt_1", "call.received"} {
			if got, err := s.EventTrails(ctx, []string{"a", "b", "c"}, unknown); len(got) != 0 || err != nil {
				t.Errorf("of %s: %+v, %v", unknown, got, err)
			}
		}
	})
}

// TestTrailsOfManyEndpoints: one round trip does a bounded part of the work.
func TestTrailsOfManyEndpoints(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	const endpoints = 5*trailChunk + 1
	var ids []string
	for i := range endpoints {
		id := fmt.Sprintf("e%03d", i)
		ids = append(ids, id)
		noError(t, s.Record(ctx, core.Record{Attempts: []core.Attempt{{
			Delivery: fmt.Sprintf("whd_%d", i), Event: "evt_1", EventType: "call.received", Endpoint: id, Number: 1, Status: core.StatusFailed, StartedAt: instant(i),
		}}}))
		noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter(id, i, 10)}))
	}
	largest := 0
	client.AddHook(pipelineHook(func(n int) { largest = max(largest, n) }))
	counted, err := New(Options{Client: client})
	noError(t, err)
	trails, err := counted.EventTrails(ctx, ids, "evt_1")
	noError(t, err)
	if len(trails) != endpoints {
		t.Fatalf("%d trails, want %d", len(trails), endpoints)
	}
	for i, trail := range trails {
		if trail.Endpoint != ids[i] || len(trail.Attempts) != 1 || len(trail.Dead) != 1 {
			t.Errorf("trail %d: %+v", i, trail)
		}
	}
	if largest > max(trailChunk, trailQuestions) || largest < trailChunk {
		t.Errorf("the largest pipeline has %d commands", largest)
	}
	scripts := 0
	client.AddHook(pipelineHook(func(n int) { scripts = max(scripts, n) }))
	_, err = counted.EventTrails(ctx, ids, "evt_2")
	noError(t, err)
	if scripts != trailChunk {
		t.Errorf("the largest pipeline of scripts has %d, want %d", scripts, trailChunk)
	}
}

// pipelineHook is told how many commands pipelines have.
type pipelineHook func(n int)

func (pipelineHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (pipelineHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h pipelineHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h(len(cmds))
		return next(ctx, cmds)
	}
}

func TestAllowTrail(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		allow := func(organization string, endpoints int) time.Duration {
			t.Helper()
			wait, err := s.AllowTrail(ctx, organization, endpoints)
			noError(t, err)
			return wait
		}
		for i := range 5 {
			if wait := allow("acme", 1000); wait != 0 {
				t.Errorf("number %d has to wait %v", i, wait)
			}
		}
		if wait := allow("acme", 1000); wait <= 0 || wait > 2*time.Second {
			t.Errorf("the sixth has to wait %v, want up to 2 s", wait)
		}
		if wait := allow("other", 1_000_000); wait != 0 {
			t.Errorf("another organization has to wait %v", wait)
		}
		if wait := allow("other", 1000); wait <= 0 {
			t.Error("more than the allowance used up less than it")
		}
		if ttl := s.client.PTTL(ctx, trailKey("acme")).Val(); ttl <= 0 || ttl > trailBurst {
			t.Errorf("it is known for %v", ttl)
		}
		// The time until which was paid for is over.
		noError(t, s.client.Del(ctx, trailKey("acme")).Err())
		if wait := allow("acme", 1); wait != 0 {
			t.Errorf("with nothing used it has to wait %v", wait)
		}
	})
}

// BenchmarkEventTrails looks through full logs.
func BenchmarkEventTrails(b *testing.B) {
	s, ctx := benchStore(b), b.Context()
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = endpoint("acme", i).ID
		rec := core.Record{}
		for n := range maxRows {
			rec.Attempts = append(rec.Attempts, core.Attempt{
				Delivery: core.NewDeliveryID(instant(n)), Event: core.NewEventID(instant(n)), EventType: "call.received", Endpoint: ids[i],
				Number: 1, Status: core.StatusRetrying, Reason: core.ReasonTimeout, StartedAt: instant(n), NextAt: instant(n),
			})
		}
		if err := s.Record(ctx, rec); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := s.EventTrails(ctx, ids, "evt_1"); err != nil {
			b.Fatal(err)
		}
	}
}
