package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ledger keeps the books of one run: which events were accepted and how often
// each delivery was received.
type ledger struct {
	endpoints int             // deliveries per event
	received  []atomic.Uint32 // receipts of delivery seq·endpoints+endpoint
	accepted  []atomic.Bool   // by seq
	next      atomic.Uint64   // sequence numbers given out
	acceptedN atomic.Int64
	receipts  atomic.Int64 // first receipts only
	repeats   atomic.Int64
	forged    atomic.Int64 // signature did not verify
	rejected  atomic.Int64 // answered otherwise than 202
	lastAt    atomic.Int64 // Unix ns of the newest receipt

	acceptLatency latency
	delivery      latency // all endpoints
	healthy       latency // endpoints that are neither dead nor slow
	isSick        func(endpoint int) bool
	sickReceipts  atomic.Int64
	arrivals      *arrivals // nil: the order is not kept
	started       time.Time
}

// maxEvents bounds the events of one run: the books are allocated up front.
const maxEvents = 2_000_000

func newLedger(endpoints, events int) *ledger {
	return &ledger{
		endpoints: endpoints,
		received:  make([]atomic.Uint32, endpoints*events),
		accepted:  make([]atomic.Bool, events),
		isSick:    func(int) bool { return false },
		started:   time.Now(),
	}
}

// take gives out n sequence numbers; ok is false when the books are full.
func (l *ledger) take(n int) (first uint64, ok bool) {
	first = l.next.Add(uint64(n)) - uint64(n)
	return first, first+uint64(n) <= uint64(len(l.accepted))
}

// accept notes that n events from first on were answered 202 after d.
func (l *ledger) accept(first uint64, n int, d time.Duration) {
	for i := range uint64(n) {
		l.accepted[first+i].Store(true)
	}
	l.acceptedN.Add(int64(n))
	l.acceptLatency.record(int(first), d)
}

// receive notes a receipt.
func (l *ledger) receive(seq uint64, endpoint int, sent, now time.Time) {
	if seq >= uint64(len(l.accepted)) || endpoint >= l.endpoints {
		l.forged.Add(1)
		return
	}
	if l.received[int(seq)*l.endpoints+endpoint].Add(1) > 1 {
		l.repeats.Add(1)
		return
	}
	if l.arrivals != nil {
		l.arrivals.add(seq)
	}
	l.receipts.Add(1)
	l.lastAt.Store(now.UnixNano())
	l.delivery.record(int(seq), now.Sub(sent))
	if l.isSick(endpoint) {
		l.sickReceipts.Add(1)
	} else {
		l.healthy.record(int(seq), now.Sub(sent))
	}
}

// lost counts deliveries of accepted events, to endpoints that answer, that
// never came.
func (l *ledger) lost(answers func(endpoint int) bool) int {
	n := 0
	for seq := range l.accepted {
		if !l.accepted[seq].Load() {
			continue
		}
		for e := range l.endpoints {
			if answers(e) && l.received[seq*l.endpoints+e].Load() == 0 {
				n++
			}
		}
	}
	return n
}

// result returns what the books say since start, when all endpoints answer.
func (l *ledger) result(scenario, variant string, start time.Time) *result {
	res := &result{
		Scenario: scenario, Variant: variant, Accepted: l.acceptedN.Load(), Rejected: l.rejected.Load(), Delivered: l.receipts.Load(),
		Duplicated: l.repeats.Load(), Forged: l.forged.Load(), Lost: l.lost(func(int) bool { return true }),
		Seconds: time.Unix(0, l.lastAt.Load()).Sub(start).Seconds(), Figures: make(map[string]float64), histogram: l.delivery.merged(),
	}
	res.Accept, res.Delivery = spreadOf(l.acceptLatency.merged()), spreadOf(res.histogram)
	if res.Seconds > 0 {
		res.DeliveredPerSecond = float64(res.Delivered) / res.Seconds
	}
	return res
}

// latency is a histogram that many goroutines write: 16 of the library's, each
// under a lock, merged when read.
type latency struct {
	shards [16]struct {
		sync.Mutex
		h *hdrhistogram.Histogram
	}
}

const (
	minLatency = int64(time.Microsecond)
	maxLatency = int64(10 * time.Minute)
)

func (l *latency) record(hint int, d time.Duration) {
	s := &l.shards[uint(hint)%16]
	s.Lock()
	defer s.Unlock()
	if s.h == nil {
		s.h = hdrhistogram.New(minLatency, maxLatency, 3)
	}
	// What lies outside the range is counted at its edge: the maximum is then a lower bound.
	_ = s.h.RecordValue(min(max(int64(d), minLatency), maxLatency))
}

// reset forgets all that was recorded.
func (l *latency) reset() {
	for i := range l.shards {
		s := &l.shards[i]
		s.Lock()
		s.h = nil
		s.Unlock()
	}
}

// merged returns all that was recorded.
func (l *latency) merged() *hdrhistogram.Histogram {
	all := hdrhistogram.New(minLatency, maxLatency, 3)
	for i := range l.shards {
		s := &l.shards[i]
		s.Lock()
		if s.h != nil {
			all.Merge(s.h)
		}
		s.Unlock()
	}
	return all
}
