package main

import "testing"

// The machine was twice as fast in the second turn, and nobody is blamed for it.
func TestRatioIsThatOfTheTurns(t *testing.T) {
	r := &runner{o: &options{}, results: []*result{
		{Scenario: "floor", Turn: 0, DeliveredPerSecond: 100}, {Scenario: "floor", Turn: 0, DeliveredPerSecond: 90},
		{Scenario: "batch", Turn: 0, DeliveredPerSecond: 30}, {Scenario: "batch", Turn: 0, DeliveredPerSecond: 60},
		{Scenario: "floor", Turn: 1, DeliveredPerSecond: 200}, {Scenario: "batch", Turn: 1, DeliveredPerSecond: 100},
		{Scenario: "floor", Turn: 2, DeliveredPerSecond: 100}, {Scenario: "batch", Turn: 2, DeliveredPerSecond: 40},
	}}
	if got, ok := r.ratio("batch", "floor", rate); got != 0.5 || !ok {
		t.Errorf("%v, %t, want 0.5: the median of 0.6, 0.5 and 0.4", got, ok)
	}
	if got, ok := r.ratio("single", "floor", rate); ok {
		t.Errorf("%v although single did not run", got)
	}
}
