package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// runRemote drives a gateway that runs elsewhere: it subscribes this receiver,
// publishes at a fixed rate, and unsubscribes it again.
func runRemote(ctx context.Context, o *options) (err error) {
	rec, err := newReceiver(o.listen)
	if err != nil {
		return err
	}
	defer rec.close()
	r := &runner{o: o, receiver: rec, payloads: lab.NewPayloads(o.payload)}
	api := lab.API{Base: strings.TrimSuffix(o.target, "/"), Key: o.key}
	ids, keys, err := api.Subscribe(ctx, 1, func(n int) string { return fmt.Sprintf("%s/%d", strings.TrimSuffix(o.publicURL, "/"), n) }, eventType)
	if err != nil {
		return err
	}
	rec.keys.Store(&keys)
	res, err := r.measure(ctx, load{scenario: "remote", variant: fmt.Sprintf("%d/s", o.rate), target: api.Base + "/api/v1/events", key: o.key, conns: 64, batch: 1, rate: o.rate, endpoints: 1})
	if err == nil {
		r.add(res)
	}
	if cleanup := api.Unsubscribe(context.WithoutCancel(ctx), ids); cleanup != nil {
		fmt.Fprintln(os.Stderr, "bench: the test endpoint is still subscribed:", ids, cleanup)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	return r.report()
}
