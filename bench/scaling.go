package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// The scenarios that say how the figures grow. What costs is CPU per delivery, of
// all processes and of bench's own part, so that the machine's mood matters less.

// scalePayload: events of 100 bytes to 256 KiB, one a request.
func (r *runner) scalePayload(ctx context.Context) error {
	usual := r.payloads
	defer func() { r.payloads = usual }()
	for _, size := range r.some(100, 1000, 10_000, 64<<10, 256<<10) {
		r.fresh() // the large ones leave a lot behind
		r.payloads = lab.NewPayloads(size)
		err := r.subscribed(ctx, 1, func(s *lab.Stack) error {
			// In flight few enough that the largest fit the gateway's bounds.
			res, err := r.measure(ctx, load{scenario: "scale-payload", variant: fmt.Sprintf("%d bytes", size), target: eventsURL(s), key: s.Key, conns: 32, batch: 1, endpoints: 1, processes: s.Processes()})
			if err == nil {
				r.add(res)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	r.fresh()
	return nil
}

// scaleEndpoints: organizations with more and more endpoints, all of them
// subscribed to the event or only one.
func (r *runner) scaleEndpoints(ctx context.Context) error {
	for _, n := range r.some(1, 10, 100, 1000) {
		conns := max(1, 64/n)
		err := r.subscribed(ctx, n, func(s *lab.Stack) error {
			res, err := r.measure(ctx, load{scenario: "scale-endpoints", variant: fmt.Sprintf("%d, all subscribed", n), target: eventsURL(s), key: s.Key, conns: conns, batch: 1, endpoints: n, processes: s.Processes()})
			if err == nil {
				r.add(res)
			}
			r.fresh() // sooner done than a thousand deletions
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, n := range r.some(10, 100, 1000) {
		err := r.subscribed(ctx, 1, func(s *lab.Stack) error {
			api := lab.API{Base: s.API, Key: s.Key}
			if _, _, err := api.Subscribe(ctx, n-1, r.receiver.url, "lead.created"); err != nil {
				return err
			}
			res, err := r.measure(ctx, load{scenario: "scale-endpoints", variant: fmt.Sprintf("%d, one subscribed", n), target: eventsURL(s), key: s.Key, conns: 64, batch: 1, endpoints: 1, processes: s.Processes()})
			if err != nil {
				return err
			}
			r.add(res)
			r.fresh()
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scaleBacklog: accepting with more and more deliveries pending, no sender
// running; then one starts and all of them arrive.
func (r *runner) scaleBacklog(ctx context.Context) error {
	levels := []int{0, 10_000, 100_000, 1_000_000}
	if r.o.quick {
		levels = []int{0, 2000}
	}
	r.fresh()
	defer r.fresh()
	return r.subscribed(ctx, 1, func(s *lab.Stack) error {
		s.StopSenders()
		empty, err := redisMemory(ctx, s)
		if err != nil {
			return err
		}
		seconds := r.length.Seconds()
		l := newLedger(1, 2*levels[len(levels)-1]+len(levels)*int(seconds+1)*steadyRate)
		r.receiver.ledger.Store(l)
		defer r.receiver.ledger.Store(nil)
		fill, err := newProducer(batchURL(s), s.Key, r.payloads, l, 64)
		if err != nil {
			return err
		}
		fill.batch = batchSize
		for _, level := range levels {
			for missing := level - int(l.acceptedN.Load()); missing > 0 && ctx.Err() == nil; missing = level - int(l.acceptedN.Load()) {
				fill.requests(ctx, (missing+batchSize-1)/batchSize, 16)
			}
			res, err := r.acceptLatency(ctx, s, l, fmt.Sprintf("%d pending", level))
			if err != nil {
				return err
			}
			now, err := redisMemory(ctx, s)
			if err != nil {
				return err
			}
			res.Figures["redis_bytes_per_delivery"] = float64(now-empty) / float64(l.acceptedN.Load())
			r.add(res)
		}
		start := time.Now()
		if err := s.StartSenders(ctx); err != nil {
			return err
		}
		awaitReceipts(ctx, l, load{endpoints: 1})
		res := &result{
			Scenario: "scale-backlog", Variant: "worked off", Accepted: l.acceptedN.Load(), Rejected: l.rejected.Load(), Delivered: l.receipts.Load(),
			Duplicated: l.repeats.Load(), Forged: l.forged.Load(), Lost: l.lost(func(int) bool { return true }),
			Seconds: time.Unix(0, l.lastAt.Load()).Sub(start).Seconds(),
		}
		res.DeliveredPerSecond = float64(res.Delivered) / res.Seconds
		r.add(res)
		return nil
	})
}

// acceptLatency measures how long events wait for their 202 at the steady rate.
func (r *runner) acceptLatency(ctx context.Context, s *lab.Stack, l *ledger, variant string) (*result, error) {
	l.acceptLatency.reset()
	p, err := newProducer(eventsURL(s), s.Key, r.payloads, l, 64)
	if err != nil {
		return nil, err
	}
	before, start := l.acceptedN.Load(), time.Now()
	loadCtx, cancel := context.WithTimeout(ctx, r.length)
	defer cancel()
	p.openLoop(loadCtx, steadyRate, 64)
	res := &result{
		Scenario: "scale-backlog", Variant: variant, Seconds: time.Since(start).Seconds(),
		Accepted: l.acceptedN.Load() - before, Rejected: p.failed.Load(), Accept: spreadOf(l.acceptLatency.merged()), Figures: make(map[string]float64),
	}
	res.AcceptedPerSecond = float64(res.Accepted) / res.Seconds
	return res, ctx.Err()
}
