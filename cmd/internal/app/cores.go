package app

import (
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// calmRate is up to how many attempts a second a sender has little to do, and
	// calmBatch how many may come at once. More are sooner done by all cores.
	calmRate  = 400
	calmBatch = 32

	// calmPart is up to what part of one core, one of so many, it has little to do,
	// however few attempts that takes.
	calmPart = 4

	// coresLook is how long a look at the CPU time spans at least, so that a
	// collection of garbage does not pass for much to do. So many looks in a row have
	// to find little.
	coresLook = 100 * time.Millisecond
	calmLooks = 20

	// coresSpan is how long a look spans at most: what was done before a long time
	// without anything was much all the same.
	coresSpan = time.Second
)

// cores lets a sender run on one core while it has little to do. Go wakes another
// thread whenever a goroutine becomes ready beside a core without work. What that
// thread was to do is mostly done before it is awake, which cost a sixth of the CPU
// of a sender with 200 deliveries a second (docs/PERFORMANCE.md).
//
// What the sender begins keeps it going: one that begins nothing is not looked at.
type cores struct {
	use   func(few bool)                // one core, or all
	spent func() (time.Duration, error) // the CPU time of this process

	started time.Time
	paid    atomic.Int64 // until when the attempts so far would last at calmRate, ns since started
	looked  atomic.Int64 // when a look began last, ns since started
	calm    atomic.Int32 // looks in a row that found little to do
	few     atomic.Bool  // changed under mu

	mu     sync.Mutex    // guards what follows, and looks
	before time.Duration // CPU time at the last look
	ended  bool
}

// newCores returns the cores of this process, all of them in use. A process has one
// number of cores, so it has one cores.
func newCores(log *slog.Logger) *cores {
	all := runtime.GOMAXPROCS(0)
	n, err := strconv.ParseInt(os.Getenv("GOMAXPROCS"), 10, 32)
	chosen := err == nil && n > 0 // as the runtime reads it
	use := func(few bool) {
		switch {
		case few:
			runtime.GOMAXPROCS(1)
		case chosen:
			runtime.GOMAXPROCS(all)
		default:
			runtime.SetDefaultGOMAXPROCS() // it follows the limit of the container again
		}
		log.Debug("cores in use changed", "cores", runtime.GOMAXPROCS(0))
	}
	return &cores{use: use, spent: spentCPU, started: time.Now()}
}

// Work is called before each bundle and each part of a backlog: what is put aside or
// given up takes no attempt.
func (c *cores) Work(now time.Time) { c.glance(c.since(now)) }

// Attempt is called before each attempt. Some at the same instant may count as one:
// the next ones are noticed.
func (c *cores) Attempt(at time.Time) {
	const cost = int64(time.Second / calmRate)
	now := c.since(at)
	paid := max(c.paid.Load(), now) + cost
	if paid > now+calmBatch*cost {
		c.much()
		return
	}
	c.paid.Store(paid)
	c.glance(now)
}

// since returns a time as ns since started, whatever happens to the wall clock.
func (c *cores) since(at time.Time) int64 { return int64(at.Sub(c.started)) }

// glance looks if it is time to.
func (c *cores) glance(now int64) {
	if now-c.looked.Load() >= int64(coresLook) && c.mu.TryLock() {
		defer c.mu.Unlock()
		c.look(now)
	}
}

// much notes that there is more to do than one core should.
func (c *cores) much() {
	if c.calm.Load() != 0 {
		c.calm.Store(0)
	}
	if c.few.Load() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.change(false)
	}
}

// look judges the CPU time since the last look. The caller holds the lock.
func (c *cores) look(now int64) {
	since := now - c.looked.Load()
	if since < int64(coresLook) {
		return // somebody else has just looked
	}
	c.looked.Store(now)
	spent, err := c.spent()
	if err != nil || int64(spent-c.before) > min(since, int64(coresSpan))/calmPart {
		c.calm.Store(0)
	} else {
		c.calm.Add(1)
	}
	c.before = spent
	c.change(c.calm.Load() >= calmLooks)
}

// change sets the number of cores. The caller holds the lock. It takes as long as a
// collection of garbage that is going on; who has more to do meanwhile waits for it
// only on the way to few cores, to take them back.
func (c *cores) change(few bool) {
	if c.few.Load() != few && !c.ended {
		c.few.Store(few)
		c.use(few)
	}
}

// end gives the process all cores for good.
func (c *cores) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change(false)
	c.ended = true
	return nil
}

// spareCores has a sender that has nothing beside it in its process run on one core
// while it has little to do.
func (b *base) spareCores() {
	b.cores = newCores(b.log)
	b.closers = append(b.closers, b.cores.end)
}
