package sender

import (
	"context"
	"time"
)

const (
	firstWait = 50 * time.Millisecond
	maxWait   = 2 * time.Second
)

// backoff is a series of waits before Redis is asked again: doubling from
// firstWait to maxWait, each drawn from the upper half of its length so that
// many who failed together do not return together.
type backoff struct {
	next time.Duration
	rand func() float64
}

func newBackoff(rand func() float64) *backoff { return &backoff{next: firstWait, rand: rand} }

// sleep waits for the next time of the series and reports whether that came
// before the end of ctx.
func (b *backoff) sleep(ctx context.Context) bool {
	wait := time.Duration(float64(b.next) * (0.5 + 0.5*b.rand()))
	b.next = min(2*b.next, maxWait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
