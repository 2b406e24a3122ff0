package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

// waits are how long good clients wait for a 202, other answers and repetitions
// included, and how long after that their receivers wait for the delivery.
type waits struct {
	accepts, arrivals []time.Duration

	// pings are what as many round trips to Redis take at the same time, which is not
	// abused: they tell what the machine makes wait, and this process itself.
	pings []time.Duration
}

// measure notes the waits of the first stream for so long.
func (w *world) measure(ctx context.Context, d time.Duration) (*waits, error) {
	s := w.streams[0]
	noted := &waits{}
	s.books.setWaits(noted)
	defer s.books.setWaits(nil)
	every := time.NewTicker(time.Second / time.Duration(s.plan.rate))
	defer every.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-every.C:
		}
		start := time.Now()
		if err := w.stack.Client.Ping(ctx).Err(); err != nil {
			return nil, err
		}
		noted.pings = append(noted.pings, time.Since(start))
	}
	s.books.setWaits(nil)
	if len(noted.accepts) == 0 || len(noted.arrivals) == 0 {
		return nil, errors.New("good clients got no answer, or their receivers nothing")
	}
	return noted, nil
}

func (b *books) setWaits(w *waits) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waits = w
}

// p99 returns what 99 of 100 do not exceed, in milliseconds.
func p99(ds []time.Duration) float64 {
	slices.Sort(ds)
	return float64(ds[(len(ds)*99+99)/100-1]) / float64(time.Millisecond)
}
