package publish

import (
	"math"
	"time"
)

const (
	// Counts lose a tenth ten times a second: a count is about what an organization
	// published within the last second.
	decayInterval = 100 * time.Millisecond
	decay         = 0.9

	// bulkCount is the count up to which nobody is above its share: two bundles'
	// worth, so that whoever comes next finds short queues.
	bulkCount = 512

	// An organization is above its share from aboveShare of it on, and until it is
	// below withinShare of it again, so that it does not change sides all the time.
	aboveShare  = 1.25
	withinShare = 0.75

	// maxCounted bounds the organizations that are counted, about 100 bytes each.
	// Beyond it newcomers are within their share; those who publish nothing are
	// forgotten within seconds.
	maxCounted = 4096
)

// shares tells which organizations publish more than their share. The share is
// that of each in what all of them publish through this process, and of one who
// may come yet: a lone organization that publishes much is above it, and so are
// two, but not ten that publish as much each.
//
// What counts is what was asked for, in deliveries, or events until their
// deliveries are known. Nothing else is needed to be fair: work above the share
// takes its own way, which is as fast as long as nobody else wants to pass.
type shares struct {
	counts  map[string]*count
	total   float64   // of all counts
	decayed time.Time // up to when
	above   int       // organizations
}

type count struct {
	n     float64
	above bool
}

func newShares() *shares { return &shares{counts: make(map[string]*count)} }

// add counts n deliveries more and reports whether the organization is above its
// share.
func (s *shares) add(organization string, n int, now time.Time) bool {
	s.decay(now)
	c := s.counts[organization]
	if c == nil {
		if len(s.counts) >= maxCounted {
			return false
		}
		c = new(count)
		s.counts[organization] = c
	}
	c.n += float64(n)
	s.total += float64(n)
	if !c.above && c.n > bulkCount && c.n > aboveShare*s.share() {
		c.above = true
		s.above++
	}
	return c.above
}

// share returns the share of each organization.
func (s *shares) share() float64 { return s.total / float64(len(s.counts)+1) }

// decay lets the counts age.
func (s *shares) decay(now time.Time) {
	if s.decayed.IsZero() {
		s.decayed = now
	}
	steps := now.Sub(s.decayed) / decayInterval
	if steps < 1 {
		return
	}
	factor := math.Pow(decay, float64(steps))
	s.decayed = s.decayed.Add(steps * decayInterval)
	s.total = 0
	for organization, c := range s.counts {
		if c.n *= factor; c.n < 0.5 {
			s.settle(c)
			delete(s.counts, organization)
			continue
		}
		s.total += c.n
	}
	within := withinShare * s.share()
	for _, c := range s.counts {
		if c.n < bulkCount/2 || c.n < within {
			s.settle(c)
		}
	}
}

// settle notes that c is within its share.
func (s *shares) settle(c *count) {
	if c.above {
		c.above = false
		s.above--
	}
}
