//go:build race

package egress

// raceEnabled: allocation budgets mean nothing under the race detector.
const raceEnabled = true
