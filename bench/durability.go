package main

import (
	"context"
	"fmt"

	"github.com/sealpost/sealpost/bench/internal/lab"
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
	o := lab.Options{
		Bin: r.o.bin, Senders: r.o.senders, Procs: r.o.procs,
		Settings: map[string]string{"SEALPOST_DURABILITY": level}, Replica: level == "replica",
	}
	if level == "fsync" {
		o.Redis.Fsync = "always"
	}
	s, err := lab.StartStack(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	ids, keys, err := (lab.API{Base: s.API, Key: s.Key}).Subscribe(ctx, 1, r.receiver.url, eventType)
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
		w.scenario, w.variant, w.key, w.endpoints, w.processes = "durability", level+", "+w.variant, s.Key, 1, s.Processes()
		res, err := r.measure(ctx, w)
		if err != nil {
			return err
		}
		r.add(res)
	}
	return nil
}
