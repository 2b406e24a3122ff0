package pace

import "time"

// baselineAge is how long the lowest latency counts. An endpoint that became
// slower for good is accepted as it is within two of these.
const baselineAge = 30 * time.Second

// baseline is the lowest latency of an endpoint in recent times.
type baseline struct {
	lowest  time.Duration // what counts; 0: nothing is known
	current time.Duration // lowest since; 0: none was noted
	since   time.Time     // when the current period began
}

// add takes in a latency and reports whether the baseline rose by it
// considerably, because a whole period has passed without one as low.
func (b *baseline) add(at time.Time, took time.Duration) (rose bool) {
	took = max(took, 1)
	if b.current != 0 && at.Sub(b.since) >= baselineAge {
		rose = b.current > b.lowest+b.lowest/4+10*time.Millisecond
		b.reset(at, b.current)
	}
	if b.lowest == 0 || took < b.lowest {
		b.lowest = took
	}
	if b.current == 0 || took < b.current {
		b.current = took
	}
	return rose
}

// reset makes took the baseline.
func (b *baseline) reset(at time.Time, took time.Duration) {
	*b = baseline{lowest: took, since: at}
}
