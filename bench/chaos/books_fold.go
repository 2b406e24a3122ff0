package main

import "time"

// folded is what is left of events that are over: long runs need not remember each
// of them. An event takes about 200 bytes while it is open.
type folded struct {
	lost, buried int
	accepted     []time.Time // when the first lost ones were
	gap          time.Duration
	late         int // receipts of events that had been folded
}

// maxFoldedTimes bounds how many of the lost ones are remembered: one is too many.
const maxFoldedTimes = 1000

// fold closes the books of the events so far, once nothing is left to be done and no
// producer is at work. dead is that of missing. What comes of them afterwards is a
// duplicate. The time until the next receipt is no gap.
func (b *books) fold(dead []map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lost, buried, accepted := b.open(dead)
	f := &b.folded
	f.lost += lost
	f.buried += buried
	f.accepted = append(f.accepted, accepted[:min(len(accepted), maxFoldedTimes-len(f.accepted))]...)
	f.gap = max(f.gap, b.openGap())
	b.settled += uint64(len(b.events))
	b.outstanding = 0
	clear(b.events) // their ids need not live on
	b.events, b.receipts, b.times = b.events[:0], b.receipts[:0], b.times[:0]
}
