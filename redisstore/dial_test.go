package redisstore

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// loneConnections returns clients with one connection each, by how they reach a server.
func loneConnections(t *testing.T, server *redistest.Server) map[string]*redis.Client {
	t.Helper()
	clients := make(map[string]*redis.Client)
	for name, url := range map[string]string{"tcp": server.URL(), "unix": server.UnixURL()} {
		at, err := ParseURL(url)
		noError(t, err)
		at.PoolSize = 1
		clients[name] = Open(at, ProfileStore).(*redis.Client)
		t.Cleanup(func() { clients[name].Close() })
	}
	return clients
}

// A connection that Redis has closed is not used for a command, which would fail:
// there is no second try.
func TestClosedConnectionsAreLeftAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, client := range loneConnections(t, server) {
		noError(t, client.Ping(t.Context()).Err())
		server.Kill()
		server.Restart()
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Errorf("%s, after a restart of Redis: %v", name, err)
		}
		stats := client.PoolStats()
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
	for name, client := range loneConnections(t, server) {
		for range 3 {
			const patience = 500 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			noError(t, client.Ping(ctx).Err())
			cancel()
			time.Sleep(patience + 10*time.Millisecond)
		}
		if stats := client.PoolStats(); stats.StaleConns != 0 || stats.Misses != 1 {
			t.Errorf("%s: %+v, want one connection for all", name, stats)
		}
	}
}
