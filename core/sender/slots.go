package sender

import "sync/atomic"

// slots bounds the attempts in flight in the process.
type slots struct {
	taken   chan struct{} // a semaphore
	waiting atomic.Int32  // who waits in it
}

func newSlots(n int) *slots { return &slots{taken: make(chan struct{}, n)} }

// tryEnter takes a slot if one is free.
func (s *slots) tryEnter() bool {
	select {
	case s.taken <- struct{}{}:
		return true
	default:
		return false
	}
}

// leave gives a slot back, to who has waited longest.
func (s *slots) leave() { <-s.taken }

// wanted reports whether anybody waits for a slot.
func (s *slots) wanted() bool { return s.waiting.Load() > 0 }

// inUse returns the number of slots taken.
func (s *slots) inUse() int { return len(s.taken) }
