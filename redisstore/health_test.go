package redisstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.URL()), server.Client(t)
	set := func(directive, value string) {
		t.Helper()
		noError(t, client.ConfigSet(t.Context(), directive, value).Err())
	}
	noError(t, s.Check(t.Context()))
	set("maxmemory-policy", "allkeys-lru")
	noError(t, s.Check(t.Context())) // without a limit nothing is evicted
	set("maxmemory", "1gb")
	if err := s.Check(t.Context()); !errors.Is(err, ErrEviction) {
		t.Errorf("Check = %v; want ErrEviction", err)
	}
	set("maxmemory-policy", "noeviction")
	noError(t, s.Check(t.Context()))
	// A user who may not ask is no reason to stand still.
	noError(t, client.Do(t.Context(), "ACL", "SETUSER", "default", "-info").Err())
	noError(t, s.Check(t.Context()))
	server.Kill()
	wantCode(t, s.Check(t.Context()), core.CodeUnavailable)
}

func TestCheckOnMiniredis(t *testing.T) {
	t.Parallel()
	s := newStore(t, "redis://"+miniredis.RunT(t).Addr())
	noError(t, s.Check(t.Context()))
	s.sample(t.Context())
	noError(t, s.Accepting())
}

// limitMemory sets maxmemory so that the server is full to a part.
func limitMemory(t *testing.T, client *redis.Client, part float64) {
	t.Helper()
	m, err := readMemory(t.Context(), client)
	noError(t, err)
	noError(t, client.ConfigSet(t.Context(), "maxmemory", itoa(int64(float64(m.used)/part))).Err())
}

func TestAccepting(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.URL()), server.Client(t)
	steps := []struct {
		name string
		full float64
		ok   bool
	}{
		{name: "room", full: 0.5, ok: true},
		{name: "full", full: 0.85, ok: false},
		{name: "a little room", full: 0.725, ok: false},
		{name: "room again", full: 0.5, ok: true},
		{name: "a little less", full: 0.725, ok: true},
	}
	noError(t, s.Accepting())
	for _, step := range steps {
		limitMemory(t, client, step.full)
		s.sample(t.Context())
		if err := s.Accepting(); (err == nil) != step.ok || err != nil && core.CodeOf(err) != core.CodeUnavailable {
			t.Errorf("%s: Accepting = %v; want accepting: %t", step.name, err, step.ok)
		}
	}
	used, limit := testutil.ToFloat64(s.metrics.memoryUsed), testutil.ToFloat64(s.metrics.memoryMax)
	if full := used / limit; full < 0.65 || full > 0.8 {
		t.Errorf("metrics say %v of %v bytes", used, limit)
	}
	limitMemory(t, client, 0.9)
	s.sample(t.Context())
	server.Kill()
	s.sample(t.Context())
	if s.Accepting() == nil {
		t.Error("a Redis that does not answer has room")
	}
	if n := testutil.ToFloat64(s.metrics.errors[opReadMemory]); n != 1 {
		t.Errorf("%v failed samples were counted; want 1", n)
	}
}

func TestWatchSeesAFullRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.URL()), server.Client(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Watch(ctx) }()
	limitMemory(t, client, 0.9)
	deadline := time.After(30 * time.Second)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for s.Accepting() == nil {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatal("Watch does not see that Redis is full")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Watch = %v; want nil", err)
	}
}

func TestParseMemory(t *testing.T) {
	t.Parallel()
	const info = "# Memory\r\nused_memory:1000\r\nused_memory_human:1K\r\ntotal_system_memory:2000\r\nmaxmemory:%d\r\nmaxmemory_policy:noeviction\r\nmem_not_counted_for_evict:200\r\n"
	tests := []struct {
		max      int64
		want     memory
		limit    int64
		fullness float64
	}{
		{4000, memory{used: 800, max: 4000, system: 2000, policy: "noeviction"}, 4000, 0.2},
		{0, memory{used: 1000, system: 2000, policy: "noeviction"}, 2000, 0.5},
	}
	for _, tt := range tests {
		got := parseMemory(fmt.Sprintf(info, tt.max))
		if got != tt.want || got.limit() != tt.limit || got.fullness() != tt.fullness {
			t.Errorf("maxmemory %d: %+v, limit %d, fullness %v; want %+v", tt.max, got, got.limit(), got.fullness(), tt.want)
		}
	}
	if (memory{used: 5}).fullness() != 0 {
		t.Error("fullness is not 0 when the limit is unknown")
	}
}

// A Redis without maxmemory is as full as its machine, and operators are told so
// once.
func TestNoMaxmemory(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	s, client := setup(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	for range 2 {
		s.sample(t.Context())
	}
	noError(t, s.Accepting())
	m, err := readMemory(t.Context(), client)
	noError(t, err)
	if limit := testutil.ToFloat64(s.metrics.memoryMax); m.max != 0 || m.system <= 0 || limit != float64(m.system) {
		t.Errorf("of %+v the metrics say the limit %v", m, limit)
	}
	if n := strings.Count(logs.String(), "no maxmemory"); n != 1 {
		t.Errorf("said %d times that maxmemory is not set:\n%s", n, &logs)
	}
	s.observe(memory{used: 80, system: 100})
	wantCode(t, s.Accepting(), core.CodeUnavailable)
}
