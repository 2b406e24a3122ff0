package main

import (
	"slices"
	"sync"
)

// arrivals keeps the order in which events arrived, each once.
type arrivals struct {
	mu   sync.Mutex
	seqs []uint64
}

func (a *arrivals) add(seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seqs = append(a.seqs, seq)
}

// displacement returns by how many later ones an event was overtaken at most.
func (a *arrivals) displacement() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	worst := 0
	before := make([]uint64, 0, len(a.seqs)) // sorted
	for _, seq := range a.seqs {
		i, _ := slices.BinarySearch(before, seq)
		worst = max(worst, len(before)-i)
		before = slices.Insert(before, i, seq)
	}
	return worst
}
