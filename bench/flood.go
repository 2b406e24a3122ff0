package main

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// The flood's numbers.
const (
	floodTimes     = 10                     // the rate of the flood, in the other organization's
	floodPerSecond = 30_000                 // events of the fastest flood per second of measurement: about what can be delivered meanwhile
	floodLead      = 500 * time.Millisecond // by which it begins before it is measured what it does
)

// flood: an organization publishes at the steady rate, first alone, then beside
// another one that publishes ten times as much, or as fast as it can, all of it
// for one endpoint.
func (r *runner) flood(ctx context.Context) error {
	r.fresh()
	defer r.fresh()
	return r.subscribed(ctx, 1, func(s *lab.Stack) error {
		key, err := s.CreateKey(ctx, "flood")
		if err != nil {
			return err
		}
		other := func(n int) string { return r.receiver.url(secondOrganization + n) }
		_, keys, err := (lab.API{Base: s.API, Key: key}).Subscribe(ctx, 1, other, eventType)
		if err != nil {
			return err
		}
		r.receiver.second.keys.Store(&keys)
		defer r.receiver.second.keys.Store(nil)
		steady := load{scenario: "flood", variant: "alone", target: eventsURL(s), key: s.Key, conns: 64, batch: 1, rate: steadyRate, endpoints: 1, processes: s.Processes()}
		alone, err := r.measure(ctx, steady)
		if err != nil {
			return err
		}
		r.add(alone)
		for _, f := range []load{
			{variant: "10 times as much", target: eventsURL(s), key: key, conns: 256, batch: 1, rate: floodTimes * steadyRate},
			{variant: "as fast as it can", target: batchURL(s), key: key, conns: 8, batch: batchSize},
		} {
			steady.variant = "beside " + f.variant
			if err := r.beside(ctx, steady, f, alone.Delivery.P99); err != nil {
				return err
			}
		}
		return nil
	})
}

// beside measures steady while the second organization floods, and the flood.
func (r *runner) beside(ctx context.Context, steady, flood load, p99 float64) error {
	length := floodLead + r.length
	events := int(length.Seconds() * floodPerSecond)
	if flood.rate > 0 {
		events = int(length.Seconds()+2) * flood.rate
	}
	l := newLedger(1, events)
	p, err := newProducer(flood.target, flood.key, r.payloads, l, flood.conns)
	if err != nil {
		return err
	}
	p.batch = flood.batch
	r.receiver.second.ledger.Store(l)
	defer r.receiver.second.ledger.Store(nil)

	floodCtx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	start, published := time.Now(), make(chan time.Duration, 1)
	go func() {
		if flood.rate > 0 {
			p.openLoop(floodCtx, flood.rate, flood.conns)
		} else {
			p.closedLoop(floodCtx, flood.conns)
		}
		published <- time.Since(start)
	}()
	var res *result
	err = pause(ctx, floodLead)
	if err == nil {
		res, err = r.measure(ctx, steady)
	}
	if err != nil {
		cancel()
		<-published
		return err
	}
	took := <-published
	res.Figures["p99_ratio"] = res.Delivery.P99 / p99
	clear(res.CPU) // it was spent on both
	r.add(res)
	awaitReceipts(ctx, l, load{endpoints: 1})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	flooded := l.result("flood", "flooding "+flood.variant, start)
	flooded.Rejected += p.failed.Load()
	flooded.AcceptedPerSecond = float64(flooded.Accepted) / took.Seconds()
	if text := p.lastErr.Load(); text != nil {
		flooded.Error = *text
	}
	r.add(flooded)
	return nil
}
