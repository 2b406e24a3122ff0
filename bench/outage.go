package main

import (
	"context"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
	"github.com/sealpost/sealpost/core/pace"
)

// The outage's numbers.
const (
	outageEvents  = 20_000
	outageBeyond  = 5 * time.Second  // how long the endpoint stays away after they are published
	outageTimeout = 2 * time.Second  // of an attempt, so that many would have run out by then
	outageCatchUp = 15 * time.Second // within which all should have arrived after its return
)

// outage: an endpoint answers 503, or nothing, while events are published and a
// while beyond; then it is back.
func (r *runner) outage(ctx context.Context) error {
	r.settings = map[string]string{"SEALPOST_DELIVERY_TIMEOUT": outageTimeout.String()}
	defer func() { r.settings = nil }()
	for _, away := range []struct {
		variant string
		wait    time.Duration
	}{{"503", 0}, {"silent", 2 * outageTimeout}} {
		r.fresh()
		err := r.subscribed(ctx, 1, func(s *lab.Stack) error {
			defer r.fresh() // its settings are not those of the next scenario
			return r.away(ctx, s, away.variant, away.wait)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) away(ctx context.Context, s *lab.Stack, variant string, wait time.Duration) error {
	events, beyond := outageEvents, outageBeyond
	if r.o.quick {
		events, beyond = 1000, time.Second
	}
	l := newLedger(1, events)
	l.arrivals = &arrivals{}
	p, err := newProducer(batchURL(s), s.Key, r.payloads, l, 1)
	if err != nil {
		return err
	}
	p.batch = batchSize
	r.receiver.ledger.Store(l)
	defer r.receiver.ledger.Store(nil)

	var requests atomic.Int64
	down := behaviour(func(int) (time.Duration, int) {
		requests.Add(1)
		return wait, http.StatusServiceUnavailable
	})
	r.receiver.behave.Store(&down)
	defer r.receiver.behave.Store(nil)
	stopProgress := r.showProgress("outage "+variant, l)
	start := time.Now()
	p.requests(ctx, events/batchSize, 1) // one after the other: their order is that of acceptance
	published := time.Since(start)
	err = pause(ctx, beyond)
	r.receiver.behave.Store(nil)
	back := time.Now()
	if err == nil {
		awaitReceipts(ctx, l, load{endpoints: 1})
		err = ctx.Err()
	}
	stopProgress()
	if err != nil {
		return err
	}
	res := l.result("outage", variant, back)
	res.AcceptedPerSecond = float64(res.Accepted) / published.Seconds()
	if text := p.lastErr.Load(); text != nil {
		res.Error = *text
	}
	res.Figures["down_s"] = back.Sub(start).Seconds()
	res.Figures["caught_up_s"] = res.Seconds
	res.Figures["overtaken_by"] = float64(l.arrivals.displacement())
	res.Figures["requests_while_down"] = float64(requests.Load())
	res.Figures["requests_allowed"] = float64(r.inFlight() + drainsFirst + probes(back.Sub(start)))
	r.add(res)
	return nil
}

// drainsFirst is how many attempts a drain begins with: while the endpoint is only
// known to be slow, one is at work beside the attempts that are in flight.
const drainsFirst = 2

// inFlight returns how many attempts at one endpoint all senders have in flight
// at most: of 64 a core, half, and no more than 64.
func (r *runner) inFlight() int {
	cores := r.o.procs
	if cores == 0 {
		cores = runtime.GOMAXPROCS(0)
	}
	return min(64, 64*cores/2) * r.o.senders
}

// probes returns how many probes fit an outage.
func probes(outage time.Duration) int {
	n := 0
	for at := pace.ProbeInterval(0); at <= outage; at += pace.ProbeInterval(n) {
		n++
	}
	return n
}
