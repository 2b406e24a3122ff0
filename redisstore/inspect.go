package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// Server is what a Redis master says about itself. What it does not tell is
// missing.
type Server struct {
	Info   map[string]string // INFO, without the statistics of databases and commands
	Config map[string]string // the part of CONFIG GET that doctor judges; nil where that is forbidden

	Used   int64 // bytes that count against Limit
	Limit  int64 // maxmemory, or the memory of the machine if that is not set; 0: unknown
	Max    int64 // maxmemory; 0: not set
	Policy string
}

// Fullness is the part of Limit that is used, 0 where it is unknown.
func (v *Server) Fullness() float64 {
	if v.Limit <= 0 {
		return 0
	}
	return float64(v.Used) / float64(v.Limit)
}

// Followers returns how many replicas follow a server that says info.
func Followers(info map[string]string) int {
	n := 0
	for name, value := range info {
		if strings.HasPrefix(name, "slave") && strings.Contains(value, "state=online") {
			n++
		}
	}
	return n
}

// FullAt is the Fullness from which on new events are refused.
const FullAt = fullAt

// Servers asks every master about itself.
func (s *Store) Servers(ctx context.Context) ([]Server, error) {
	defer s.metrics.took(opInspect, time.Now())
	var mu sync.Mutex // masters are asked at the same time
	var servers []Server
	err := s.eachMaster(ctx, func(ctx context.Context, c redis.Cmdable) error {
		v, err := readServer(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			servers = append(servers, v)
		}
		return err
	})
	if err != nil {
		return nil, s.fail(opInspect, err)
	}
	return servers, nil
}

// configRead lists what is asked of CONFIG GET, in one question of Redis 7.0 and
// in several of older ones.
func configRead() []string {
	return []string{"save", "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "rdbcompression", "auto-aof-rewrite-min-size", "bind", "protected-mode"}
}

func readServer(ctx context.Context, c redis.Cmdable) (Server, error) {
	var v Server
	info, err := answered(c.Info(ctx).Result())
	if err != nil {
		return v, fmt.Errorf("read INFO: %w", err)
	}
	v.Info = parseInfo(info)
	m := parseMemory(info)
	v.Used, v.Limit, v.Max, v.Policy = m.used, m.limit(), m.max, m.policy
	for _, name := range configRead() {
		values, err := answered(c.ConfigGet(ctx, name).Result())
		if err != nil {
			return v, fmt.Errorf("read CONFIG: %w", err)
		}
		for name, value := range values {
			if v.Config == nil {
				v.Config = make(map[string]string)
			}
			v.Config[name] = value
		}
	}
	return v, nil
}

// answered leaves out what a server refuses or does not know, which is no error.
func answered[T any](value T, err error) (T, error) {
	if refuses(err) {
		var none T
		return none, nil
	}
	return value, err
}

func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && !strings.HasPrefix(name, "db") && !strings.HasPrefix(name, "#") {
			info[name] = value
		}
	}
	return info
}

// SampleAPIKeys returns up to n API keys chosen by chance, and how many there
// are in all, expired ones included.
func (s *Store) SampleAPIKeys(ctx context.Context, n int) (keys []core.APIKey, total int64, err error) {
	defer s.metrics.took(opInspect, time.Now())
	total, err = s.client.HLen(ctx, apiKeysKey).Result()
	if err != nil {
		return nil, 0, s.fail(opInspect, err)
	}
	samples, err := s.sampleHashes(ctx, []string{apiKeysKey}, n)
	if err != nil {
		return nil, 0, s.fail(opInspect, err)
	}
	now := s.now()
	for id, entry := range samples[0] {
		var k listedKey
		if err := json.Unmarshal([]byte(entry), &k); err != nil {
			return nil, 0, fmt.Errorf("decode API key %s: %w", id, err)
		}
		if !k.Expired(now) {
			keys = append(keys, k.APIKey)
		}
	}
	return keys, total, nil
}

// SampleEndpoints returns up to n endpoints of each organization, chosen by
// chance, in two round trips.
func (s *Store) SampleEndpoints(ctx context.Context, organizations []string, n int) ([]core.Endpoint, error) {
	defer s.metrics.took(opInspect, time.Now())
	keys := make([]string, len(organizations))
	for i, organization := range organizations {
		keys[i] = endpointsKey(organization)
	}
	samples, err := s.sampleHashes(ctx, keys, n)
	if err != nil {
		return nil, s.fail(opInspect, err)
	}
	var endpoints []core.Endpoint
	for i, organization := range organizations {
		for id, record := range samples[i] {
			e, err := decodeEndpoint(core.EndpointRef{Organization: organization, ID: id}, record)
			if err != nil {
				return nil, err
			}
			endpoints = append(endpoints, *e)
		}
	}
	return endpoints, nil
}

// sampleHashes returns up to n entries of each hash, parallel to keys. It asks
// for names and values apart: miniredis answers HRANDFIELD WITHVALUES with
// another type than Redis does.
func (s *Store) sampleHashes(ctx context.Context, keys []string, n int) ([]map[string]string, error) {
	samples := make([]map[string]string, len(keys))
	names := make([]*redis.StringSliceCmd, len(keys))
	values := make([]*redis.SliceCmd, len(keys))
	pipe := s.client.Pipeline()
	for i, key := range keys {
		names[i] = pipe.HRandField(ctx, key, n)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	for i, key := range keys {
		if len(names[i].Val()) > 0 {
			values[i] = pipe.HMGet(ctx, key, names[i].Val()...)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	for i := range keys {
		samples[i] = make(map[string]string, len(names[i].Val()))
		for j, name := range names[i].Val() {
			// An entry that was deleted meanwhile has no value.
			if value, ok := values[i].Val()[j].(string); ok {
				samples[i][name] = value
			}
		}
	}
	return samples, nil
}
