package redisstore

import (
	"fmt"
	"testing"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

func TestServers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithAppendOnly("always"), redistest.WithConfig("maxmemory", "64mb"))
	s, client := newStore(t, server.URL()), server.Client(t)
	servers, err := s.Servers(t.Context())
	noError(t, err)
	if len(servers) != 1 {
		t.Fatalf("%d servers", len(servers))
	}
	v := servers[0]
	if v.Info["redis_version"] == "" || v.Info["aof_enabled"] != "1" || v.Info["role"] != "master" {
		t.Errorf("INFO %v", v.Info)
	}
	if v.Config["appendfsync"] != "always" || v.Config["rdbcompression"] != "yes" || v.Config["auto-aof-rewrite-min-size"] == "" {
		t.Errorf("CONFIG %v", v.Config)
	}
	if v.Max != 64<<20 || v.Limit != v.Max || v.Used <= 0 || v.Fullness() <= 0 || v.Policy != "noeviction" {
		t.Errorf("memory %+v, fullness %v", v, v.Fullness())
	}
	// What is forbidden is missing, and no error.
	noError(t, client.Do(t.Context(), "ACL", "SETUSER", "default", "-config", "-info").Err())
	servers, err = s.Servers(t.Context())
	noError(t, err)
	if len(servers) != 1 || servers[0].Config != nil || len(servers[0].Info) != 0 || servers[0].Fullness() != 0 {
		t.Errorf("without permission: %+v", servers)
	}
}

func TestSamples(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if keys, total, err := s.SampleAPIKeys(ctx, 5); err != nil || len(keys) != 0 || total != 0 {
			t.Errorf("of none: %v, %d, %v", keys, total, err)
		}
		for i := range 7 {
			noError(t, s.CreateAPIKey(ctx, [32]byte{byte(i)}, apiKey("acme", fmt.Sprintf("key_%d", i), i)))
			noError(t, s.CreateEndpoint(ctx, endpoint("acme", i), 10))
		}
		noError(t, s.CreateEndpoint(ctx, endpoint("small", 100), 10))
		keys, total, err := s.SampleAPIKeys(ctx, 5)
		if err != nil || len(keys) != 5 || total != 7 || keys[0].Organization != "acme" {
			t.Errorf("%v of %d keys, %v", keys, total, err)
		}
		endpoints, err := s.SampleEndpoints(ctx, []string{"acme", "nobody", "small"}, 3)
		noError(t, err)
		of := make(map[string]int)
		seen := make(map[string]bool)
		for _, e := range endpoints {
			of[e.Organization]++
			seen[e.ID] = true
		}
		if of["acme"] != 3 || of["small"] != 1 || len(endpoints) != 4 || len(seen) != 4 {
			t.Errorf("sample %v", of)
		}
	})
}
