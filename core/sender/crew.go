package sender

import (
	"sync"

	"github.com/sealpost/sealpost/core/stack"
)

// crew has the goroutines in which workers run. Between two bundles they wait instead of
// ending: the stack of a fresh one has to grow first (core/stack).
type crew struct {
	mu    sync.Mutex
	runs  int
	shift *shift // of the runs
}

// shift is the goroutines from when a bundle begins to run until none runs any more:
// as many as there were workers at a time meanwhile, which slots and overtime bound.
type shift struct {
	jobs chan job      // unbuffered: for one that waits
	over chan struct{} // closed when no bundle runs any more
	all  sync.WaitGroup
}

// job is what a worker begins with.
type job struct {
	r *run
	l *lane
	i int
}

// enter says that a bundle begins to run, and returns those who work for it until leave.
func (c *crew) enter() *shift {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs == 0 {
		c.shift = &shift{jobs: make(chan job), over: make(chan struct{})}
	}
	c.runs++
	return c.shift
}

// leave says that a bundle has ended. The last one sends all home.
func (c *crew) leave() {
	c.mu.Lock()
	c.runs--
	last, s := c.runs == 0, c.shift
	c.mu.Unlock()
	if last {
		close(s.over)
		s.all.Wait() // they have nothing in hand
	}
}

// do has j done by one who waits, or else by a new one.
func (s *shift) do(j job) {
	select {
	case s.jobs <- j:
	default:
		s.all.Go(func() { s.work(j) })
	}
}

func (s *shift) work(j job) {
	stack.Grow8()
	for {
		j.r.work(j.l, j.i)
		j = job{} // a bundle that has ended is not held
		select {
		case j = <-s.jobs:
		case <-s.over:
			return
		}
	}
}
