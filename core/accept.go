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
const HeldLook = time.Minute

// ParksFresh reports whether a fresh delivery for the endpoint goes straight to
// its backlog, and how long after that the backlog has to be looked at.
func (e *Endpoint) ParksFresh() (look time.Duration, parks bool) {
	if e.Holds() {
		return HeldLook, true
	}
	return 0, e.Paced()
}

// DueAfter returns the Parking.Due of a backlog that has to be looked at so long
// after now.
func DueAfter(now time.Time, look time.Duration) time.Time {
	if look == 0 {
		return time.Time{}
	}
	return now.Add(look)
}
