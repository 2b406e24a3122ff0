//go:build race

package sign_test

// raceEnabled: the race detector makes sync.Pool drop items at random, so
// allocation budgets mean nothing under it.
const raceEnabled = true
