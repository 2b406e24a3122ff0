package core

import "time"

// State says how the deliveries of an endpoint travel.
type State string

// The states. Apart from the first and the last, an endpoint's Condition says
// which one it is in.
const (
	StateActive     State = "active"      // its deliveries are sent at once
	StateSlow       State = "slow"        // it takes long to answer: sent from its backlog
	StateThrottled  State = "throttled"   // it answered 429, 502, 503 or 504: sent from its backlog
	StatePaused     State = "paused"      // it asked to be left alone for a while (Retry-After)
	StateFailing    State = "failing"     // its circuit is open: only probes are sent
	StateCatchingUp State = "catching_up" // a backlog is being worked off
	StateDisabled   State = "disabled"
)

// States lists every state once, the worse the later.
func States() []State {
	return []State{StateActive, StateSlow, StateThrottled, StatePaused, StateFailing, StateCatchingUp, StateDisabled}
}

// Condition is why the deliveries of an endpoint go to its backlog instead of
// being sent at once. All senders share it. The zero Condition is none.
type Condition struct {
	State State     // "": none
	Since time.Time // when State began
	Until time.Time // end of a pause, next probe, or when a slow or throttled one counts as cured

	Probes int // of a failing one: probes that failed since its circuit opened

	// What is known of the delivery at the head of the backlog: its attempts there,
	// which its own count does not hold.
	Head         string // delivery id; "": nothing is known
	HeadAttempts int
}

// Parks reports whether a delivery goes to the backlog at now. A pause and a
// slowness end by themselves; the others end when a drain says so.
func (c *Condition) Parks(now time.Time) bool {
	switch c.State {
	case StateFailing, StateCatchingUp:
		return true
	case StateSlow, StateThrottled, StatePaused:
		return now.Before(c.Until)
	default:
		return false
	}
}

// Failing is how long an endpoint has done nothing but fail. The zero Failing
// says that its last attempt succeeded, or that it saw none.
type Failing struct {
	Since  time.Time // of the first failure
	Warned int       // the highest warning given, in percent of the time after which it is disabled
}

// Standing is what the API shows of an endpoint besides its record.
type Standing struct {
	Condition Condition
	Failing   Failing
	Backlog   int // deliveries that wait in it
}
