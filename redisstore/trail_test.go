package redisstore

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
