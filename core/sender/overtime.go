package sender

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/pace"
)

const (
	// inTime is how long an attempt may keep its slot of the process. What takes
	// longer waits for its receiver, which costs no CPU: it makes room for others.
	inTime = 100 * time.Millisecond

	// overtimePerSlot is how many attempts may work overtime for each slot: what
	// they cost is memory and a connection.
	overtimePerSlot = 4

	// watchInterval is how often attempts are looked at.
	watchInterval = 25 * time.Millisecond
)

// overtime watches the attempts of bundles, so that those which take long hold up
// nobody else: after inTime they leave their slot, after pace.SlowAfter their
// endpoint is told to be slow.
type overtime struct {
	places  chan struct{} // a semaphore: attempts that left their slot
	overdue func(d *core.Delivery, now time.Time)
	now     func() time.Time

	began chan struct{} // capacity 1: somebody works

	spare sync.Pool // of *worker

	mu      sync.Mutex
	workers map[*worker]struct{}
}

// leaver is what a worker works for.
type leaver interface {
	// leaveSlot gives back what an attempt in overtime must not hold. It is called at
	// most once for each attempt, by the watch.
	leaveSlot()
}

// The states of a worker.
const (
	idle     int32 = iota // no attempt in flight
	onSlot                // an attempt in flight, which holds a slot
	overslot              // an attempt in flight that left its slot
)

// worker sends one delivery after the other.
type worker struct {
	leaver leaver

	state    atomic.Int32
	since    atomic.Int64 // Unix time in ns at which the attempt in flight began
	delivery atomic.Pointer[core.Delivery]

	reported int64 // since of the attempt that was reported as overdue; the watch's own
}

func newOvertime(places int, overdue func(*core.Delivery, time.Time), now func() time.Time) *overtime {
	return &overtime{
		places: make(chan struct{}, places), overdue: overdue, now: now,
		began: make(chan struct{}, 1), workers: make(map[*worker]struct{}),
	}
}

// add makes a worker known until remove.
func (o *overtime) add(l leaver) *worker {
	w, ok := o.spare.Get().(*worker)
	if !ok {
		w = new(worker)
	}
	w.leaver = l
	o.mu.Lock()
	o.workers[w] = struct{}{}
	first := len(o.workers) == 1
	o.mu.Unlock()
	if first {
		select {
		case o.began <- struct{}{}:
		default: // the watch has not looked yet
		}
	}
	return w
}

func (o *overtime) remove(w *worker) {
	o.mu.Lock()
	delete(o.workers, w)
	o.mu.Unlock()
	w.leaver = nil
	w.delivery.Store(nil)
	o.spare.Put(w) // the watch knows only what is in workers
}

// start says that w's attempt of d begins.
func (w *worker) start(d *core.Delivery, now time.Time) {
	w.delivery.Store(d)
	w.since.Store(now.UnixNano())
	w.state.Store(onSlot)
}

// stop says that w's attempt has ended, and reports whether it left its slot.
func (o *overtime) stop(w *worker) (left bool) {
	if w.state.CompareAndSwap(onSlot, idle) {
		return false
	}
	w.state.Store(idle)
	<-o.places
	return true
}

// watch looks at the attempts until ctx ends. While there are none it sleeps.
func (o *overtime) watch(ctx context.Context) {
	timer := time.NewTimer(watchInterval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.began:
		}
		for busy := true; busy; busy = o.look() {
			timer.Reset(watchInterval)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
	}
}

// look looks at every worker once and reports whether there are any.
func (o *overtime) look() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	for w := range o.workers {
		state, since := w.state.Load(), w.since.Load()
		if state == idle {
			continue
		}
		age := now.Sub(time.Unix(0, since))
		if state == onSlot && age >= inTime {
			o.leaveSlot(w)
		}
		if age >= pace.SlowAfter && w.reported != since {
			w.reported = since
			o.overdue(w.delivery.Load(), now)
		}
	}
	return len(o.workers) > 0
}

// leaveSlot makes w's attempt work overtime if there is a place. An attempt that
// ends at this moment may be mistaken for w's next one, which then merely leaves
// early.
func (o *overtime) leaveSlot(w *worker) {
	select {
	case o.places <- struct{}{}:
	default:
		return
	}
	if w.state.CompareAndSwap(onSlot, overslot) {
		w.leaver.leaveSlot()
		return
	}
	<-o.places
}
