package queue

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// TestBellSurvives cuts the connections on which the polls are held.
func TestBellSurvives(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := setupWith(t, server.Client(t))
	handler, bundles := f.collect()
	f.consume(handler)
	until(t, "polls that are held", f.held)
	if err := f.client.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 1)); errs != nil {
		t.Fatal(errs)
	}
	receive(t, "bundle", bundles)
	until(t, "polls that are held again", f.held)
}

// TestRings counts the rings that a producer leaves behind, with nobody there to
// hear them.
func TestRings(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	if errs := f.producer().Enqueue(ctx, fanOut(event("evt_0", 0), 1)); errs != nil { // loads the script
		t.Fatal(errs)
	}
	f.client.Del(ctx, bellKey("deliver-00"))
	rings := func(queue string) int64 { return f.client.LLen(ctx, bellKey(queue)).Val() }
	for i, deliveries := range []int{1, 20} {
		if errs := f.producer().Enqueue(ctx, fanOut(event("evt_1", 0), deliveries)); errs != nil {
			t.Fatal(errs)
		}
		if got := rings("deliver-00"); got != int64(i+1) {
			t.Errorf("%d rings after %d bundles", got, i+1)
		}
	}
	if err := f.producer().Defer(ctx, fanOut(event("evt_1", 0), 20), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := rings("deliver-00") + rings(retryQueue); got != 2 {
		t.Errorf("%d rings after a bundle that has to wait; want the two before", got)
	}
	for range 2 * maxRings {
		if errs := f.producer().Enqueue(ctx, fanOut(event("evt_1", 0), 1)); errs != nil {
			t.Fatal(errs)
		}
	}
	if got := rings("deliver-00"); got != maxRings {
		t.Errorf("%d rings are kept; want %d", got, maxRings)
	}
}

// TestOneRingWakesOne: of two consumers that wait, a task wakes one.
func TestOneRingWakesOne(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := setupWith(t, server.Client(t))
	ctx := t.Context()
	// Without the script in Redis its first use rings twice.
	if errs := f.producer().Enqueue(ctx, fanOut(event("evt_0", 0), 1)); errs != nil {
		t.Fatal(errs)
	}
	f.client.Del(ctx, bellKey("deliver-00"))
	woken := make(chan error, 2)
	for range 2 {
		client := server.Client(t)
		go func() { woken <- client.BLPop(ctx, maxHold, bellKey("deliver-00")).Err() }()
	}
	until(t, "both wait", func() bool { return f.blocked() == "2" })
	if errs := f.producer().Enqueue(ctx, fanOut(event("evt_1", 0), 1)); errs != nil {
		t.Fatal(errs)
	}
	if err := receive(t, "the first", woken); err != nil {
		t.Errorf("the first one: %v", err)
	}
	if err := receive(t, "the second", woken); !errors.Is(err, redis.Nil) {
		t.Errorf("the second one: %v; want %v", err, redis.Nil)
	}
}

// TestIdleIsQuiet bounds what an idle sender costs Redis.
func TestIdleIsQuiet(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := setupWith(t, server.Client(t))
	handler, bundles := f.collect()
	f.consume(handler, func(o *ConsumerOptions) { o.Shards = DefaultShards })
	if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 1)); errs != nil {
		t.Fatal(errs)
	}
	receive(t, "bundle", bundles)
	scripts := func() int64 {
		info := f.client.InfoMap(t.Context(), "commandstats").Item("Commandstats", "cmdstat_evalsha")
		calls, _, _ := strings.Cut(strings.TrimPrefix(info, "calls="), ",")
		n, err := time.ParseDuration(calls + "ns")
		if err != nil {
			t.Fatalf("commandstats %q: %v", info, err)
		}
		return int64(n)
	}
	before, start := scripts(), time.Now()
	timer := time.NewTimer(4 * time.Second)
	<-timer.C
	// Without doorbell five servers would poll 1,000 times a second each.
	perSecond := float64(scripts()-before) / time.Since(start).Seconds()
	t.Logf("%.1f scripts per second", perSecond)
	if perSecond > 20 {
		t.Errorf("%.1f scripts per second; want at most 20", perSecond)
	}
}
