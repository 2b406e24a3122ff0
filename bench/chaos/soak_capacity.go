package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

const (
	// capacityWindow is how many deliveries of an organization may be waiting while
	// the capacity is measured: enough that nobody is idle, few enough that nothing
	// is backed up (half a second's of a small machine).
	capacityWindow = 1000
	lowestRate     = 20 // events/s of an organization
)

// setRate sets at what rate the rounds publish: as --rate says, or by the capacity.
func (s *soaking) setRate(ctx context.Context) error {
	w := s.w
	rate := float64(w.o.rate)
	if rate == 0 {
		capacity, err := s.capacity(ctx)
		if err != nil {
			return err
		}
		s.report.Capacity = capacity
		rate = loadShare * capacity
	}
	s.report.Rate = rate
	for _, st := range w.streams {
		st.plan.rate = max(lowestRate, int(rate)/st.plan.endpoints/len(w.streams))
	}
	fmt.Fprintf(os.Stderr, "soak: capacity %.0f deliveries/s, goes on at %.0f\n", s.report.Capacity, rate)
	w.ended = time.Now()
	return s.rest(ctx)
}

// capacity returns how many deliveries/s the machine can do with all that runs on it:
// both gateways, all senders, Redis, the proxies, producers and receivers. Producers
// offer the next event as soon as the last was answered, as long as few wait.
func (s *soaking) capacity(ctx context.Context) (float64, error) {
	busy, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, st := range s.w.streams {
		seed := s.w.random.Uint64()
		wg.Go(func() { st.saturate(busy, seed) })
	}
	delivered := func() (n int) {
		for _, st := range s.w.streams {
			n += st.books.count(&st.books.delivered)
		}
		return n
	}
	err := sleep(ctx, s.w.long(3*time.Second, time.Second)) // until all is warm
	from, before := time.Now(), delivered()
	if err == nil {
		err = sleep(ctx, s.w.long(6*time.Second, time.Second))
	}
	rate := float64(delivered()-before) / time.Since(from).Seconds()
	stop()
	wg.Wait()
	return rate, err
}

// saturate offers events until ctx ends, each worker one after the other.
func (s *stream) saturate(ctx context.Context, seed uint64) {
	client := s.client()
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range s.plan.workers {
		wg.Go(func() {
			p := &producer{stream: s, client: client, random: rand.New(rand.NewPCG(seed, uint64(i)))}
			for ctx.Err() == nil {
				if s.books.count(&s.books.outstanding) > capacityWindow {
					time.Sleep(time.Millisecond)
					continue
				}
				p.offer(ctx)
			}
		})
	}
	wg.Wait()
}
