package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/bench/internal/proxy"
)

// each calls f with the proxies of the programs whose name begins with prefix.
func (w *world) each(prefix string, f func(*proxy.Proxy)) {
	for name, p := range w.toRedis {
		if strings.HasPrefix(name, prefix) {
			f(p)
		}
	}
}

// loseReplies loses replies of Redis to the commands that name a key with marker,
// one at a time, whole ones and halves in turn.
func loseReplies(program, marker string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		var due, lost atomic.Int64
		judge := func(piece []byte, _ int) proxy.Verdict {
			if !bytes.Contains(piece, []byte(marker)) {
				return proxy.Pass
			}
			if due.Add(-1) < 0 {
				due.Store(0)
				return proxy.Pass
			}
			if lost.Add(1)%2 == 0 {
				return proxy.LoseReply
			}
			return proxy.CutReply
		}
		w.each(program, func(p *proxy.Proxy) { p.Judge(judge) })
		for range w.times(12, 3) {
			if err := sleep(ctx, 700*time.Millisecond); err != nil {
				return err
			}
			due.Store(1)
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		w.res.Injected = int(lost.Load())
		return nil
	}
}

// networkRedis goes through what a network does between Sealpost and Redis.
func networkRedis(ctx context.Context, w *world) error {
	set := func(c proxy.Conditions) {
		w.each("", func(p *proxy.Proxy) { p.Set(c) })
		w.res.Injected++
	}
	for range w.times(10, 3) {
		if err := sleep(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		w.each("", func(p *proxy.Proxy) { w.res.Injected += p.Reset() })
	}
	for _, c := range []struct {
		proxy.Conditions
		lasts time.Duration
	}{
		{proxy.Conditions{Latency: 30 * time.Millisecond}, w.long(5*time.Second, time.Second)},
		{proxy.Conditions{Rate: 200_000}, w.long(5*time.Second, time.Second)},
		{proxy.Conditions{Swallow: true}, w.long(5*time.Second, time.Second)},
		{proxy.Conditions{Refuse: true}, w.long(2*time.Second, time.Second)},
	} {
		set(c.Conditions)
		if err := sleep(ctx, c.lasts); err != nil {
			return err
		}
		if c.Swallow || c.Refuse {
			// What was swallowed is gone: such a connection never works again.
			w.each("", func(p *proxy.Proxy) { p.Reset() })
		}
		set(proxy.Conditions{})
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// networkReceivers ends connections to receivers as a request comes that is not
// their first: half of the requests so, before it arrives or after.
func networkReceivers(ctx context.Context, w *world) error {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(w.random.Uint64(), 0))
	var dropped, lost atomic.Int64
	judge := func(_ []byte, nth int) proxy.Verdict {
		mu.Lock()
		drawn := random.IntN(4)
		mu.Unlock()
		switch {
		case nth == 0 || drawn > 1:
			return proxy.Pass
		case drawn == 0:
			dropped.Add(1)
			return proxy.Drop
		default:
			lost.Add(1)
			return proxy.LoseReply
		}
	}
	links := w.streams[0].links
	for _, l := range links {
		l.Judge(judge)
	}
	err := sleep(ctx, w.long(8*time.Second, 3*time.Second))
	for _, l := range links {
		l.Judge(nil)
	}
	w.res.Injected = int(dropped.Load() + lost.Load())
	w.res.DuplicatesAtMost += int(lost.Load())
	return err
}

// silentEndpoints has the second stream's endpoints do what silent ones do.
func silentEndpoints(ctx context.Context, w *world) error {
	sick := []proxy.Conditions{
		{Swallow: true},
		{Rate: 100}, // a request takes longer than an attempt may
		{Latency: 5 * time.Second},
		{Refuse: true},
	}
	var late atomic.Int64
	count := func(_ []byte, nth int) proxy.Verdict {
		if nth == 0 { // its attempt gives up, and the connection carries no other
			late.Add(1)
		}
		return proxy.Pass
	}
	links := w.streams[1].links
	for i, l := range links {
		c := sick[i%len(sick)]
		if c.Latency > 0 || c.Rate > 0 {
			l.Judge(count)
		}
		l.Set(c)
		l.Reset()
		w.res.Injected++
	}
	err := sleep(ctx, w.long(20*time.Second, 4*time.Second))
	healthy := w.streams[0].books
	healthy.mu.Lock()
	waiting := healthy.outstanding
	healthy.mu.Unlock()
	w.res.Figures["healthy_outstanding"] = float64(waiting)
	if waiting > 2*w.streams[0].plan.rate {
		w.broken("%d deliveries of the healthy endpoint wait for the silent ones", waiting)
	}
	for _, l := range links {
		l.Set(proxy.Conditions{})
		l.Reset()
		l.Judge(nil)
	}
	w.res.DuplicatesAtMost += int(late.Load())
	return err
}

// noisyNeighbour has the endpoint of the second stream swallow what comes.
func noisyNeighbour(ctx context.Context, w *world) error {
	link := w.streams[1].links[0]
	link.Set(proxy.Conditions{Swallow: true})
	w.res.Injected++
	err := sleep(ctx, w.long(15*time.Second, 4*time.Second))
	b := w.streams[0].books
	b.mu.Lock()
	w.res.Figures["neighbour_outstanding"], w.res.Figures["neighbour_slowest_s"] = float64(b.outstanding), b.slowest.Seconds()
	if b.outstanding > 5*w.streams[0].plan.rate {
		w.broken("%d deliveries of the quiet organization wait for the noisy one", b.outstanding)
	}
	b.mu.Unlock()
	link.Set(proxy.Conditions{})
	link.Reset()
	return err
}
