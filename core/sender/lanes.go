package sender

import (
	"slices"
	"sync"
	"time"
)

// turnTime is how long a worker goes on with the deliveries of its endpoint
// while another bundle wants its slot of the process.
const turnTime = 20 * time.Millisecond

// lane is what a bundle holds for one endpoint. A slot of the endpoint that an
// attempt leaves stays with the lane while it has more to send: of many bundles
// for one endpoint the first is finished first, rather than all a little.
type lane struct {
	endpoint string
	indexes  []int // deliveries not started yet, oldest first
	held     int   // slots of the endpoint that no attempt uses; at most len(indexes)
	waiting  bool  // until the limiter has granted a slot for each of indexes
	ready    bool  // stands in lanes.ready
}

// lanes is what a run has to send and what its workers have in hand. A worker
// that has finished a delivery takes the next one of the same endpoint by
// itself, on the same slots; the run's loop begins workers and collects what
// they found.
type lanes struct {
	bulk   bool // gives way to what is not
	slots  *slots
	limits *limiter
	waiter *waiter // its bell also tells the loop to look here

	mu      sync.Mutex
	all     map[string]*lane // by endpoint
	ready   []*lane          // may start a delivery, in turn; none is empty
	waiting int              // lanes that wait for a slot of their endpoint
	running int              // attempts in flight
	halted  bool             // nothing new is started
	inbox   []*verdict       // for the loop
	overdue int              // attempts that left their slot since the loop last looked
}

// add puts a delivery at the end of its endpoint's lane. It is for the time
// before the run begins.
func (ls *lanes) add(endpoint string, index int) {
	l := ls.all[endpoint]
	if l == nil {
		l = &lane{endpoint: endpoint}
		ls.all[endpoint] = l
	}
	l.indexes = append(l.indexes, index)
	ls.makeReady(l)
}

// over reports whether no attempt is in flight, none is left to start and no
// verdict is left to collect.
func (ls *lanes) over() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.running == 0 && len(ls.ready) == 0 && ls.waiting == 0 && len(ls.inbox) == 0
}

// wantsSlot reports whether there is a delivery to start.
func (ls *lanes) wantsSlot() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return len(ls.ready) > 0
}

// collect returns the verdicts that came since the last call, and how many attempts
// left their slot.
func (ls *lanes) collect() (inbox []*verdict, late int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	inbox, late = ls.inbox, ls.overdue
	ls.inbox, ls.overdue = nil, 0
	return inbox, late
}

// late says that an attempt left its slot.
func (ls *lanes) late() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.overdue++
	ls.waiter.ring()
}

// begin returns the next delivery whose endpoint is not full, for a new worker
// that has a slot of the process. crowded is the number of deliveries whose lanes
// were found to wait for their endpoint. The lane is nil if there is none to
// begin.
func (ls *lanes) begin() (l *lane, index, crowded int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for len(ls.ready) > 0 {
		l := ls.ready[0]
		ls.ready, l.ready = ls.ready[1:], false
		switch {
		case l.held > 0:
			l.held--
		case l.waiting:
			continue
		case !ls.limits.acquire(l.endpoint, ls.waiter, len(l.indexes)):
			l.waiting = true
			ls.waiting++
			crowded += len(l.indexes)
			continue
		}
		index := ls.pop(l)
		if len(l.indexes) > 0 {
			ls.makeReady(l)
		}
		ls.running++
		return l, index, crowded
	}
	return nil, 0, crowded
}

// next hands in the verdict of a worker of lane l, which has had its slot of the
// process for that long, and returns the delivery that the worker goes on with. ok
// is false if there is none: its slots are given back.
func (ls *lanes) next(l *lane, v *verdict, mayStart bool, had time.Duration) (index int, ok bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.inbox = append(ls.inbox, v)
	urgent := v.urgent()
	if mayStart && !urgent && !v.overtime && !ls.halted && len(l.indexes) > l.held && (!ls.slots.wanted() || had < turnTime) && !ls.slots.owed(ls.bulk) {
		if len(ls.inbox) >= settleGroup {
			ls.waiter.ring()
		}
		return ls.pop(l), true
	}
	ls.running--
	ls.keep(l)
	if !v.overtime {
		ls.slots.leave(ls.bulk)
	}
	if urgent || l.ready || ls.running == 0 || len(ls.inbox) >= settleGroup {
		ls.waiter.ring()
	}
	return 0, false
}

// pop takes the oldest delivery out of a lane that is not empty. An empty lane
// neither waits nor stands ready.
func (ls *lanes) pop(l *lane) int {
	index := l.indexes[0]
	l.indexes = l.indexes[1:]
	if len(l.indexes) > 0 {
		return index
	}
	ls.stopWaiting(l)
	if l.ready {
		i := slices.Index(ls.ready, l)
		ls.ready = slices.Delete(ls.ready, i, i+1)
		l.ready = false
	}
	return index
}

// keep receives a slot of the lane's endpoint: for its next delivery, or to be
// given back when there is none without a slot.
func (ls *lanes) keep(l *lane) {
	if len(l.indexes) == l.held {
		ls.stopWaiting(l)
		ls.limits.release(l.endpoint)
		return
	}
	l.held++
	ls.makeReady(l)
}

// stopWaiting gives up the lane's place in the queue for slots of its endpoint.
func (ls *lanes) stopWaiting(l *lane) {
	if l.waiting {
		ls.limits.cancel(l.endpoint, ls.waiter)
		l.waiting = false
		ls.waiting--
	}
}

// makeReady puts a lane with deliveries into its turn.
func (ls *lanes) makeReady(l *lane) {
	if !l.ready {
		l.ready = true
		ls.ready = append(ls.ready, l)
	}
}

// receiveSlots readies the lanes that were granted a slot of their endpoint.
func (ls *lanes) receiveSlots() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.waiting == 0 {
		return
	}
	for _, g := range ls.limits.take(ls.waiter) {
		l := ls.all[g.endpoint]
		if g.last {
			l.waiting = false
			ls.waiting--
		}
		for range g.slots {
			ls.keep(l)
		}
	}
}

// halt ends the starting of attempts, gives up every claim on slots and returns
// the deliveries that were not started, in their order.
func (ls *lanes) halt() []int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.halted {
		return nil
	}
	ls.halted = true
	var rest []int
	var waitingFor []string
	for endpoint, l := range ls.all {
		rest = append(rest, l.indexes...)
		l.indexes = nil
		if l.waiting {
			waitingFor = append(waitingFor, endpoint)
		}
		for ; l.held > 0; l.held-- {
			ls.limits.release(endpoint)
		}
		l.waiting, l.ready = false, false
	}
	ls.limits.leave(ls.waiter, waitingFor)
	ls.ready, ls.waiting = nil, 0
	slices.Sort(rest)
	return rest
}
