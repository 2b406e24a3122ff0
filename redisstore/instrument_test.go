package redisstore

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// measured returns how often an operation was timed and how often it failed.
func measured(t *testing.T, g prometheus.Gatherer, o op) (timed uint64, failed float64) {
	t.Helper()
	families, err := g.Gather()
	noError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if len(m.GetLabel()) != 1 || m.GetLabel()[0].GetValue() != string(o) {
				continue
			}
			switch family.GetName() {
			case "sealpost_redis_operation_duration_seconds":
				timed = m.GetHistogram().GetSampleCount()
			case "sealpost_redis_errors_total":
				failed = m.GetCounter().GetValue()
			}
		}
	}
	return timed, failed
}

// TestInstrument: every round trip is timed, and only what Redis did not confirm
// is a failure.
func TestInstrument(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	registry := prometheus.NewPedanticRegistry()
	options, err := ParseURL(server.URL())
	noError(t, err)
	client := Open(options, ProfileQueue)
	t.Cleanup(func() { _ = client.Close() })
	noError(t, Instrument(client, ProfileQueue, registry))
	ctx := t.Context()
	check := func(what string, timed uint64, failed float64) {
		t.Helper()
		if gotTimed, gotFailed := measured(t, registry, opQueue); gotTimed != timed || gotFailed != failed {
			t.Errorf("%s: %d timed and %v failed; want %d and %v", what, gotTimed, gotFailed, timed, failed)
		}
	}
	check("before the first", 0, 0)
	noError(t, client.Ping(ctx).Err())
	_, err = client.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Ping(ctx).Err() })
	noError(t, err)
	check("two pings and the greetings of their connections", 4, 0)
	noError(t, client.Set(ctx, "list", "no list", 0).Err())
	client.Get(ctx, "nothing")
	client.EvalSha(ctx, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", nil)
	check("a value, none, and an unknown script", 7, 0)
	noError(t, client.LPush(ctx, "bell", "").Err())
	noError(t, client.BLPop(ctx, time.Second, "bell").Err())
	check("a push, and a wait that is not timed", 8, 0)
	_, err = client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.LPush(ctx, "bell", "")
		p.BLPop(ctx, time.Second, "bell")
		return p.LLen(ctx, "bell").Err()
	})
	noError(t, err)
	check("a wait in a pipeline, which is not timed", 8, 0)
	client.LLen(ctx, "list")
	check("a wrong type", 9, 1)
	client.BLPop(ctx, time.Second, "list")
	check("a wait for a wrong type", 9, 2)
	pipeline := func(commands ...func(redis.Pipeliner)) {
		pipe := client.Pipeline()
		for _, c := range commands {
			c(pipe)
		}
		_, _ = pipe.Exec(ctx)
	}
	missing := func(p redis.Pipeliner) { p.Get(ctx, "nothing") }
	pipeline(missing, missing)
	check("a pipeline of missing values", 10, 2)
	pipeline(missing, func(p redis.Pipeliner) { p.LLen(ctx, "list") })
	check("a pipeline with a failure behind a missing value", 11, 3)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	client.Get(cancelled, "list")
	check("a caller that went away", 12, 3)
	server.Kill()
	client.Get(ctx, "list")
	check("no Redis", 13, 4)

	other := Open(options, ProfileStore)
	t.Cleanup(func() { _ = other.Close() })
	noError(t, Instrument(other, ProfileStore, registry))
	other.Get(ctx, "list")
	check("a client of the store", 13, 4)
}

// TestOperationsAreTimed: each operation of the store is timed under its name.
func TestOperationsAreTimed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options, err := ParseURL(server.URL())
	noError(t, err)
	client := Open(options, ProfileStore)
	t.Cleanup(func() { _ = client.Close() })
	registry := prometheus.NewPedanticRegistry()
	s, err := New(Options{Client: client, Registerer: registry, PayloadRetention: time.Hour})
	noError(t, err)
	for range everything(t.Context(), s) {
	}
	s.sample(t.Context())
	for _, o := range ops() {
		if timed, _ := measured(t, registry, o); timed == 0 && o != opEnqueue && o != opQueue && o != opAwait { // which waits by intention
			t.Errorf("%s is not timed", o)
		}
	}
}
