package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"github.com/redis/go-redis/v9"
)

// durability: what a 202 costs that waits for Redis's disk or for a replica.
func (r *runner) durability(ctx context.Context) error {
	for _, level := range []string{"async", "fsync", "replica"} {
		if err := r.durable(ctx, level); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) durable(ctx context.Context, level string) error {
	s, err := startStack(ctx, r.o, nil, map[string]string{"SEALPOST_DURABILITY": level})
	if err != nil {
		return err
	}
	defer s.close()
	ids, keys, err := apiClient{s.api, s.key}.subscribe(ctx, 1, r.receiver.url, eventType)
	if err != nil {
		return fmt.Errorf("subscribe %d: %w", len(ids), err)
	}
	r.receiver.keys.Store(&keys)
	loads := []load{
		{variant: "1 conn", target: eventsURL(s), conns: 1, batch: 1},
		{variant: "64 conns", target: eventsURL(s), conns: 64, batch: 1},
		{variant: "8 conns, batch", target: batchURL(s), conns: 8, batch: batchSize},
	}
	for _, w := range loads {
		w.scenario, w.variant, w.key, w.endpoints, w.processes = "durability", level+", "+w.variant, s.key, 1, s.processes()
		res, err := r.measure(ctx, w)
		if err != nil {
			return err
		}
		r.add(res)
	}
	return nil
}

// makeDurable gives a stack's Redis what its gateway is going to ask for.
func (s *stack) makeDurable(ctx context.Context, level string) error {
	switch level {
	case "fsync":
		return s.client.ConfigSet(ctx, "appendfsync", "always").Err()
	case "replica":
		var addr string
		var err error
		if s.replica, addr, err = startRedis(filepath.Join(s.dir, "replica")); err != nil {
			return err
		}
		host, port, err := net.SplitHostPort(s.client.Options().Addr)
		if err != nil {
			return err
		}
		client := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer client.Close()
		return client.SlaveOf(ctx, host, port).Err()
	}
	return nil
}
