package core

import (
	"slices"
	"time"
)

// Wants reports whether an event of type t makes a delivery for the endpoint. A
// disabled one that holds gets it into its backlog.
func (e *Endpoint) Wants(t string) bool { return e.Takes() && slices.Contains(e.EventTypes, t) }

// Takes reports whether events make deliveries for the endpoint at all.
func (e *Endpoint) Takes() bool { return e.Enabled || e.Holds() }

// HeldLook is how long after a delivery came into the backlog of a disabled
// endpoint the backlog is looked at: late enough to bother no drain for nothing,
// and only a second line behind the look that follows when it is enabled.
const HeldLook = 5 * time.Minute

// ParksFresh reports whether a fresh delivery for the endpoint goes straight to
// its backlog, and when that has to be looked at then; zero: at once.
func (e *Endpoint) ParksFresh(now time.Time) (due time.Time, parks bool) {
	if e.Holds() {
		return now.Add(HeldLook), true
	}
	return time.Time{}, e.Paced()
}
