package sender

import (
	"context"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
)

const (
	// maxDrains bounds the backlogs that a sender works off at a time; others are
	// left to other senders, or wait for their turn.
	maxDrains = 4096

	// sweepHold is how long a sender waits for the bell before it looks by itself
	// which backlogs are due.
	sweepHold = 6 * time.Second
)

// Run works backlogs off, and watches the attempts of bundles, until ctx ends or
// Drain is called, and then until what it has in flight is settled. It returns nil.
func (s *Sender) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.overtime.watch(ctx) })
	sweeping, end := context.WithCancel(ctx)
	defer end()
	wg.Go(func() {
		select {
		case <-s.draining:
		case <-ctx.Done():
		}
		end()
	})
	s.sweep(sweeping, &wg)
	<-ctx.Done() // bundles are still at work while the sender drains
	wg.Wait()
	return nil
}

// sweep claims backlogs that are due and starts a drain for each, until ctx ends.
func (s *Sender) sweep(ctx context.Context, wg *sync.WaitGroup) {
	for wait := newBackoff(s.rand); ctx.Err() == nil; {
		select {
		case s.drains <- struct{}{}: // one place at least
			<-s.drains
		case <-ctx.Done():
			return
		}
		free := cap(s.drains) - len(s.drains)
		claims, next, err := s.claim(ctx, free)
		if err != nil {
			if ctx.Err() == nil {
				s.logger.Warn("backlogs could not be looked at", "error", err)
			}
			wait.sleep(ctx)
			continue
		}
		wait = newBackoff(s.rand)
		for _, c := range claims {
			s.drains <- struct{}{}
			wg.Go(func() {
				defer func() { <-s.drains }()
				s.drainBacklog(ctx, c)
			})
		}
		if len(claims) == free {
			continue
		}
		hold := sweepHold
		if next > 0 {
			hold = min(hold, next)
		}
		if err := s.store.AwaitBacklogs(ctx, hold); err != nil {
			wait.sleep(ctx)
		}
	}
}

func (s *Sender) claim(ctx context.Context, most int) ([]core.Claim, time.Duration, error) {
	// What is claimed is worked off or released, even when the sweep ends meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleCall)
	defer cancel()
	return s.store.ClaimBacklogs(ctx, most)
}
