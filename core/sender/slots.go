package sender

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bulkReserve and bulkFloor are parts of the slots, one of so many each. While
	// others are about, bulk work leaves the reserve to them, so that they begin at
	// once; and however much they have to send, bulk work keeps its floor.
	bulkReserve = 2
	bulkFloor   = 4

	// othersTime is how long after the last attempt of others bulk work may take
	// all slots.
	othersTime = 10 * time.Second
)

// slots bounds the attempts in flight in the process, and those of bulk work
// among them. A slot that comes free goes to who has waited longest, but to bulk
// work last, as long as that has its floor.
type slots struct {
	most    int
	waiting atomic.Int32 // who waits, of both kinds

	mu     sync.Mutex
	taken  int       // by both kinds
	bulk   int       // of these, by bulk work
	others time.Time // when others took a slot, or asked for one, last
	queue  []*seat   // others that wait, in order
	bulks  []*seat   // bulk work that waits, in order
}

// seat is a place to wait for a slot.
type seat struct {
	bulk    bool
	granted bool          // a slot belongs to it; guarded by slots.mu
	ready   chan struct{} // capacity 1: granted
}

func newSlots(n int) *slots { return &slots{most: n} }

func newSeat(bulk bool) *seat { return &seat{bulk: bulk, ready: make(chan struct{}, 1)} }

// tryEnter takes a slot if one is free for this kind of work.
func (s *slots) tryEnter(bulk bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bulk {
		if len(s.bulks) > 0 || !s.bulkMayEnter() {
			return false
		}
		s.bulk++
	} else {
		s.others = time.Now()
		if s.taken >= s.most {
			return false
		}
	}
	s.taken++
	return true
}

// leave gives a slot back.
func (s *slots) leave(bulk bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if bulk {
		s.bulk--
	}
	s.grant()
}

// wait queues w. The channel yields a value when w has a slot; endWait has to
// follow in any case.
func (s *slots) wait(w *seat) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting.Add(1)
	if w.bulk {
		s.bulks = append(s.bulks, w)
	} else {
		s.others = time.Now()
		s.queue = append(s.queue, w)
	}
	s.grant() // what came free since it was tried
	return w.ready
}

// endWait ends the waiting of w and reports whether it has got a slot.
func (s *slots) endWait(w *seat) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.granted {
		w.granted = false
		select {
		case <-w.ready:
		default: // it has been received
		}
		return true
	}
	queue := &s.queue
	if w.bulk {
		queue = &s.bulks
	}
	if i := slices.Index(*queue, w); i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
		s.waiting.Add(-1)
	}
	return false
}

// grant gives free slots to those who wait. The caller holds the lock.
func (s *slots) grant() {
	for s.taken < s.most {
		queue := &s.queue
		if len(s.bulks) > 0 && (len(s.queue) == 0 || s.bulk < s.most/bulkFloor) && s.bulkMayEnter() {
			queue = &s.bulks
			s.bulk++
		} else if len(s.queue) == 0 {
			return
		}
		w := (*queue)[0]
		*queue = slices.Delete(*queue, 0, 1)
		s.taken++
		s.waiting.Add(-1)
		w.granted = true
		w.ready <- struct{}{}
	}
}

// bulkMayEnter reports whether bulk work may take one more slot. The caller holds
// the lock.
func (s *slots) bulkMayEnter() bool {
	return s.taken < s.most && (s.bulk < s.bulkMost() || !s.othersAbout())
}

// bulkMost is how many slots bulk work has while others are about.
func (s *slots) bulkMost() int { return s.most - s.most/bulkReserve }

// othersAbout reports whether anything but bulk work has been sent lately. The
// caller holds the lock.
func (s *slots) othersAbout() bool {
	return s.taken > s.bulk || len(s.queue) > 0 || time.Since(s.others) < othersTime
}

// wanted reports whether anybody waits for a slot.
func (s *slots) wanted() bool { return s.waiting.Load() > 0 }

// owed reports whether bulk work that holds a slot should rather give it back.
func (s *slots) owed(bulk bool) bool {
	if !bulk {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) > 0 || s.bulk > s.bulkMost() && s.othersAbout()
}

// inUse returns the number of slots taken.
func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}
