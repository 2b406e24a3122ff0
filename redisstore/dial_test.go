package redisstore

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// A connection that Redis has closed is not used for a command, which would fail:
// there is no second try.
func TestClosedConnectionsAreLeftAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, url := range map[string]string{"tcp": server.URL(), "unix": server.UnixURL()} {
		at, err := ParseURL(url)
		noError(t, err)
		at.PoolSize = 1
		client := Open(at, ProfileStore)
		defer client.Close()
		noError(t, client.Ping(t.Context()).Err())
		server.Kill()
		server.Restart()
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Errorf("%s, after a restart of Redis: %v", name, err)
		}
		stats := client.(*redis.Client).PoolStats()
		if stats.StaleConns != 1 || stats.TotalConns != 1 {
			t.Errorf("%s: %+v, want one stale connection and its successor", name, stats)
		}
	}
}

// A connection whose last command's deadline has passed while it lay idle is as good as
// before.
func TestIdleConnectionsAreKept(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, url := range map[string]string{"tcp": server.URL(), "unix": server.UnixURL()} {
		at, err := ParseURL(url)
		noError(t, err)
		at.PoolSize = 1
		client := Open(at, ProfileStore)
		defer client.Close()
		for range 3 {
			const patience = 200 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			noError(t, client.Ping(ctx).Err())
			cancel()
			time.Sleep(patience + 10*time.Millisecond)
		}
		if stats := client.(*redis.Client).PoolStats(); stats.StaleConns != 0 || stats.Misses != 1 {
			t.Errorf("%s: %+v, want one connection for all", name, stats)
		}
	}
}
