package main

import (
	"slices"
	"sync"
	"time"
)

// books compare what was accepted with what was received: the oracle.
type books struct {
	mu        sync.Mutex
	endpoints int      // deliveries of an event
	settled   uint64   // sequence number of the first event below; those before it are in folded
	events    []event  // by sequence number - settled
	receipts  []uint16 // of delivery (seq-settled)·endpoints+endpoint
	folded    folded

	times       []time.Time // of all receipts
	outstanding int         // deliveries of accepted events that were not received
	accepted    int
	delivered   int // first receipts
	newest      uint64
	overtaken   int // first receipts after that of a later event
	repeated    int // further ones
	reoffered   int // those among them whose event was offered again because nobody confirmed it
	forged      int // bad signature, or nothing that we sent
	split       int // an event came under two ids: one key was accepted twice
	refused     int // answers other than 202, and none
	unconfirmed int // events that never got a 202: they may arrive or not
	odd         []string
	slowest     time.Duration // from 202 to receipt
	refusal     time.Duration // the longest wait for an answer that was no 202
	bare        int           // 503 without Retry-After

	waits *waits // of what happens now; nil: nobody asks
}

type event struct {
	id       string // "" until accepted
	accepted time.Time
	seen     string // the id that receivers saw
	offered  int    // requests that were neither confirmed nor refused for good
}

func newBooks(endpoints int) *books {
	return &books{endpoints: endpoints}
}

// take gives out the next sequence number.
func (b *books) take() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, event{})
	b.receipts = append(b.receipts, make([]uint16, b.endpoints)...)
	return b.settled + uint64(len(b.events)-1)
}

// accept notes a 202. Repetitions must tell the same id.
func (b *books) accept(seq uint64, id string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seq -= b.settled
	e := &b.events[seq]
	if e.id != "" {
		if e.id != id {
			b.split++
		}
		return
	}
	e.id, e.accepted = id, now
	b.accepted++
	if e.seen != "" && e.seen != id {
		b.split++
	}
	for i := range b.endpoints {
		if b.receipts[int(seq)*b.endpoints+i] == 0 {
			b.outstanding++
		}
	}
}

// receive notes a receipt that was answered 2xx.
func (b *books) receive(seq uint64, endpoint int, id string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if seq < b.settled && endpoint < b.endpoints {
		b.repeated++ // nothing was left of it in Redis: it must not come again
		b.folded.late++
		return
	}
	seq -= b.settled
	if seq >= uint64(len(b.events)) || endpoint >= b.endpoints {
		b.forged++
		return
	}
	e := &b.events[seq]
	if e.id != "" && e.id != id || e.seen != "" && e.seen != id {
		b.split++
	}
	e.seen = id
	b.times = append(b.times, now)
	n := &b.receipts[int(seq)*b.endpoints+endpoint]
	if *n++; *n > 1 {
		b.repeated++
		if int(*n) <= 1+e.offered {
			b.reoffered++
		}
		return
	}
	b.delivered++
	if b.waits != nil {
		b.waits.arrivals = append(b.waits.arrivals, e.wait(now))
	}
	if b.settled+seq < b.newest {
		b.overtaken++
	}
	b.newest = max(b.newest, b.settled+seq)
	if e.id != "" {
		b.outstanding--
		b.slowest = max(b.slowest, now.Sub(e.accepted))
	}
}

// wait returns how long after its 202 the event arrived at now. It may arrive before
// the producer has read its answer.
func (e *event) wait(now time.Time) time.Duration {
	if e.id == "" {
		return 0
	}
	return max(now.Sub(e.accepted), 0)
}

// confirmed notes how long a producer took to have an event accepted.
func (b *books) confirmed(took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waits != nil {
		b.waits.accepts = append(b.waits.accepts, took)
	}
}

func (b *books) forge() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forged++
}

// refuse notes an answer that was no 202, and how long it took. open says that the
// event may be stored all the same.
func (b *books) refuse(seqs []uint64, took time.Duration, open, bare bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused++
	for _, seq := range seqs {
		if open {
			b.events[seq-b.settled].offered++
		}
	}
	b.refusal = max(b.refusal, took)
	if bare {
		b.bare++
	}
}

// unexpected notes an answer that no fault explains.
func (b *books) unexpected(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.odd) < 3 {
		b.odd = append(b.odd, text)
	}
}

func (b *books) giveUp(events int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unconfirmed += events
}

// since counts the receipts after t.
func (b *books) since(t time.Time) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, at := range slices.Backward(b.times) {
		if at.Before(t) {
			break // nearly in order: good enough for a bound
		}
		n++
	}
	return n
}

// count returns a figure under the lock.
func (b *books) count(n *int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *n
}

// missing counts the deliveries of accepted events that were neither received nor
// are among dead, which holds the event ids of each endpoint's dead letters. It
// also returns how many of dead were never received, and when the lost ones were
// accepted.
func (b *books) missing(dead []map[string]bool) (lost, buried int, accepted []time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lost, buried, accepted = b.open(dead)
	return b.folded.lost + lost, b.folded.buried + buried, append(accepted, b.folded.accepted...)
}

// open is missing for the events that have not been folded.
func (b *books) open(dead []map[string]bool) (lost, buried int, accepted []time.Time) {
	for seq := range b.events {
		e := &b.events[seq]
		if e.id == "" {
			continue
		}
		for i := range b.endpoints {
			if b.receipts[seq*b.endpoints+i] > 0 {
				continue
			}
			if dead[i][e.id] {
				buried++
				continue
			}
			lost++
			accepted = append(accepted, e.accepted)
		}
	}
	return lost, buried, accepted
}

// gap returns the longest time without a receipt between two of them.
func (b *books) gap() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.folded.gap, b.openGap())
}

// openGap is gap for the receipts that have not been folded.
func (b *books) openGap() time.Duration {
	slices.SortFunc(b.times, time.Time.Compare)
	var longest time.Duration
	for i := 1; i < len(b.times); i++ {
		longest = max(longest, b.times[i].Sub(b.times[i-1]))
	}
	return longest
}
