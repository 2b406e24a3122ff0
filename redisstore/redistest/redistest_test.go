package redistest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core/leaktest"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

var shared redistest.Shared

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m, shared.Stop)) }

func TestStartListensOnSocketAndPort(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	ctx := t.Context()
	if err := s.Client(t).Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	options, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	overTCP := redis.NewClient(options)
	defer overTCP.Close()
	if got, err := overTCP.Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Errorf("GET over TCP = %q, %v; want %q", got, err, "v")
	}
	if options, err = redis.ParseURL(s.UnixURL()); err != nil {
		t.Fatal(err)
	}
	if options.Addr != s.SocketPath() || options.DB != 0 {
		t.Errorf("UnixURL names %s, database %d; want %s, 0", options.Addr, options.DB, s.SocketPath())
	}
}

func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options []redistest.Option
		kept    bool
	}{
		{name: "in memory"},
		{name: "append only", options: []redistest.Option{redistest.WithAppendOnly("always")}, kept: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, tt.options...)
			client := s.Client(t)
			if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			s.Kill()
			if err := client.Ping(t.Context()).Err(); err == nil {
				t.Error("a killed server answers")
			}
			s.Restart()
			err := client.Get(t.Context(), "k").Err()
			if kept := err == nil; kept != tt.kept || err != nil && !errors.Is(err, redis.Nil) {
				t.Errorf("GET after the restart: %v; want the value kept: %t", err, tt.kept)
			}
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	client := s.Client(t)
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("a paused server answers")
	}
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatalf("a paused server refuses connections: %v", err)
	}
	conn.Close()
	s.Resume()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a resumed server: %v", err)
	}
}

func TestWithConfig(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.WithConfig("maxmemory", "64mb"), redistest.WithConfig("maxmemory-policy", "allkeys-lru"))
	got, err := s.Client(t).ConfigGet(t.Context(), "maxmemory*").Result()
	if err != nil {
		t.Fatal(err)
	}
	if got["maxmemory"] != "67108864" || got["maxmemory-policy"] != "allkeys-lru" {
		t.Errorf("configuration %v", got)
	}
}

func TestSharedDatabasesAreApart(t *testing.T) {
	t.Parallel()
	for range 2 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			d := shared.Database(t)
			client := d.Client(t)
			if n, err := client.DBSize(t.Context()).Result(); err != nil || n != 0 {
				t.Fatalf("a fresh database has %d keys, %v", n, err)
			}
			if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			options, err := redis.ParseURL(d.URL())
			if err != nil {
				t.Fatal(err)
			}
			if options.Addr != d.Addr() || options.DB != d.Number() {
				t.Errorf("URL %s; want address %s and database %d", d.URL(), d.Addr(), d.Number())
			}
		})
	}
}
