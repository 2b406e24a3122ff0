package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// fault is one row of the plan.
type fault struct {
	number  int    // in docs/RELIABILITY.md
	name    string // of the command line
	promise string // what must hold, with the reason of each bound
	ci      bool   // part of the five minutes
	once    bool   // what is offered again comes once, too

	plan plan
	run  func(context.Context, *world) error // does harm, while events are published
	then func(context.Context, *world) error // looks once all is quiet; may be nil
}

// plan says in what world a fault happens.
type plan struct {
	settings map[string]string
	redis    lab.RedisOptions
	proxied  bool         // programs reach Redis through proxies
	paced    bool         // run says when events are published
	streams  []streamPlan // nil: one of 500 events/s for one endpoint
}

// streamPlan is an organization with its events and endpoints.
type streamPlan struct {
	rate      int // events/s; with batch: requests/s
	workers   int // requests under way at most; 0: 32
	endpoints int
	payload   int  // bytes of data; 0: 300
	keyed     int  // one event in so many has an idempotency key from the first; 0: each
	batch     int  // events of a request, under one key; 0: one, and no batch
	fifo      bool // endpoints are served in strict order
	proxied   bool // each endpoint is behind a proxy of its own
}

// worlds is how many faults may be waiting for quiet beside the one that is being
// done: they cost memory and little else.
const worlds = 4

// runFaults does one fault after the other. While one waits for quiet, which takes
// minutes where leases have to run out, the next one begins.
func runFaults(ctx context.Context, o *options) ([]*result, error) {
	results, errs := make([]*result, len(o.faults)), make([]error, len(o.faults))
	slots, stage := make(chan struct{}, worlds), make(chan struct{}, 1)
	var wg sync.WaitGroup
	for i, f := range o.faults {
		slots <- struct{}{}
		stage <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(os.Stderr, "%s …\n", f.name)
		leave := sync.OnceFunc(func() { <-stage })
		wg.Go(func() {
			defer func() { <-slots }()
			defer leave()
			results[i], errs[i] = f.happen(ctx, o, leave)
			if errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", f.name, errs[i])
				fmt.Fprintln(os.Stderr, errs[i])
				return
			}
			fmt.Fprintln(os.Stderr, results[i].line())
		})
	}
	wg.Wait()
	results = slices.DeleteFunc(results, func(r *result) bool { return r == nil })
	return results, errors.Join(append(errs, ctx.Err())...)
}

// happen does the fault in a world of its own and calls leave once only quiet is
// waited for.
func (f *fault) happen(ctx context.Context, o *options, leave func()) (*result, error) {
	random := rand.New(rand.NewPCG(o.seed, uint64(f.number)))
	w, err := newWorld(ctx, o, f, random)
	if err != nil {
		return nil, err
	}
	defer w.close()
	stop := func() { w.ended = time.Now() }
	if !f.plan.paced {
		stop = w.publish(ctx)
	}
	err = f.run(ctx, w)
	stop()
	leave()
	if err != nil {
		w.stack.Keep = true
		return nil, err
	}
	if err := w.quiet(ctx); err != nil {
		return nil, err
	}
	if f.then != nil {
		if err := f.then(ctx, w); err != nil {
			return nil, err
		}
	}
	res, err := w.judge(ctx, f)
	if err != nil {
		return nil, err
	}
	return res, w.secrets(ctx)
}

// sleep waits, and returns an error when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
