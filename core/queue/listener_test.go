package queue

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// TestListenerReturns cuts the subscription; the bells ring again.
func TestListenerReturns(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := setupWith(t, server.Client(t))
	handler, bundles := f.collect()
	f.consume(handler)
	channel := bellChannel("deliver-00")
	listening := func() bool { return f.client.PubSubNumSub(context.Background(), channel).Val()[channel] == 1 }
	until(t, "subscription", listening)
	if err := f.client.Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	until(t, "loss noticed", func() bool { return strings.Contains(f.log.String(), "subscription lost") })
	until(t, "subscription restored", func() bool { return listening() && strings.Contains(f.log.String(), "subscription restored") })
	if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 1)); errs != nil {
		t.Fatal(errs)
	}
	receive(t, "bundle", bundles)
}

// TestBellRings listens where consumers do.
func TestBellRings(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := setupWith(t, server.Client(t))
	bell := newDoorbell()
	l := &listener{client: f.client, logger: f.options().Logger, bells: map[string]*doorbell{bellChannel("deliver-00"): bell}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { l.run(ctx); close(ended) }()
	receive(t, "ring for the subscription", bell.rung)
	for _, deliveries := range []int{1, 20} {
		if errs := f.producer().Enqueue(ctx, fanOut(event("evt_1", 0), deliveries)); errs != nil {
			t.Fatal(errs)
		}
		receive(t, "ring for a bundle", bell.rung)
	}
	cancel()
	receive(t, "end of the listener", ended)
}

func TestTasksThatWaitDoNotRing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := setupWith(t, server.Client(t))
	ctx := t.Context()
	ps := f.client.Subscribe(ctx, bellChannel("deliver-00"), bellChannel(retryQueue))
	t.Cleanup(func() { _ = ps.Close() })
	for range 2 {
		if _, err := ps.ReceiveTimeout(ctx, patience); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.producer().Defer(ctx, fanOut(event("evt_1", 0), 20), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	f.client.Publish(ctx, bellChannel(retryQueue), "end")
	if m, err := ps.ReceiveTimeout(ctx, patience); err != nil || m.(*redis.Message).Payload != "end" {
		t.Errorf("message %v, %v; want only the test's own", m, err)
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
