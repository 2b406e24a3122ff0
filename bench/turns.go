package main

import (
	"context"
	"slices"
	"time"
)

// How often scenarios that are compared take turns. On a machine that others use, the
// same program was a third slower a minute later; what is compared without turns is
// the minutes. A low rate is dearer for moments, and cheap to repeat.
const (
	loadTurns   = 5
	steadyTurns = 9
	mostTurns   = max(loadTurns, steadyTurns)
)

// turns returns how many turns are taken instead of n.
func (r *runner) turns(n int) int {
	if r.o.quick {
		return 1
	}
	return n
}

// takeTurns runs the chosen scenarios that take turns.
func (r *runner) takeTurns(ctx context.Context) error {
	r.length = r.turnLength()
	for r.turn = range r.turns(loadTurns) {
		if err := r.run(ctx, true); err != nil {
			return err
		}
	}
	r.length, r.turn = r.o.duration, 0
	return nil
}

// turnLength is that of a measurement in a turn.
func (r *runner) turnLength() time.Duration { return max(r.o.duration*3/8, time.Second) }

// rate is a figure to compare: deliveries/s.
func rate(res *result) float64 { return res.DeliveredPerSecond }

// ratio compares a figure of two scenarios: in each turn the highest of the one's
// variants by the highest of the other's, and of the turns the median. Without
// a turn in which both ran it is false.
func (r *runner) ratio(a, b string, figure func(*result) float64) (float64, bool) {
	var ratios []float64
	for turn := range mostTurns {
		if x, y := r.highest(a, turn, figure), r.highest(b, turn, figure); x > 0 && y > 0 {
			ratios = append(ratios, x/y)
		}
	}
	if len(ratios) == 0 {
		return 0, false
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2], true
}

// highest is a figure of a scenario's variants in one turn; 0 if none ran.
func (r *runner) highest(scenario string, turn int, figure func(*result) float64) float64 {
	highest := 0.0
	for _, res := range r.results {
		if res.Scenario == scenario && res.Turn == turn {
			highest = max(highest, figure(res))
		}
	}
	return highest
}
