// Package retry decides what an attempt means and when the next one is due. It
// is pure: the caller brings time and randomness.
package retry

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Limits of a schedule. They keep every sum of waits far inside time.Duration.
const (
	MaxCap      = 30 * 24 * time.Hour // longest wait between two attempts, without jitter
	MaxAttempts = 1000
)

// jitter is how far a wait may be drawn from its nominal length, both ways, so
// that deliveries which failed together do not return together.
const jitter = 0.2

// Schedule says how long to wait after a failed attempt and when to give up:
// exponential growth from Base by Factor up to Cap, MaxAttempts attempts in all.
type Schedule struct {
	Base        time.Duration // wait after the first attempt
	Factor      float64       // growth from one wait to the next; at least 1
	Cap         time.Duration // longest wait, before jitter
	MaxAttempts int           // attempts of a delivery, the first one included
}

// Default returns the schedule of the documentation: 5 s growing by 4 up to
// 12 h, 12 attempts, about two and a half days.
func Default() Schedule {
	return Schedule{Base: 5 * time.Second, Factor: 4, Cap: 12 * time.Hour, MaxAttempts: 12}
}

// Validate returns an error that names the first field out of range. The other
// methods are defined for valid schedules only.
func (s Schedule) Validate() error {
	switch {
	case s.Base <= 0:
		return errors.New("base: must be above 0")
	case !(s.Factor >= 1) || math.IsInf(s.Factor, 1): // the negation catches NaN
		return errors.New("factor: must be a finite number of at least 1")
	case s.Cap < s.Base:
		return errors.New("cap: must not be below base")
	case s.Cap > MaxCap:
		return fmt.Errorf("cap: must not exceed %v", MaxCap)
	case s.MaxAttempts < 1 || s.MaxAttempts > MaxAttempts:
		return fmt.Errorf("max attempts: must be between 1 and %d", MaxAttempts)
	}
	return nil
}

// Delay returns the wait between failed attempt number attempt and the next.
// Attempts count from 1; a smaller number counts as 1. The wait is
// min(Cap, Base·Factor^(attempt-1)), times 0.8 to 1.2 as r goes from 0 to 1. ok
// is false, and the wait 0, when there is no next attempt.
func (s Schedule) Delay(attempt int, r float64) (wait time.Duration, ok bool) {
	if attempt >= s.MaxAttempts {
		return 0, false
	}
	nominal := float64(s.nominal(attempt))
	return time.Duration(nominal * (1 - jitter + 2*jitter*r)), true
}

// nominal returns the wait after attempt without jitter.
func (s Schedule) nominal(attempt int) time.Duration {
	wait := float64(s.Base) * math.Pow(s.Factor, float64(max(attempt, 1)-1))
	if wait >= float64(s.Cap) { // +Inf included
		return s.Cap
	}
	return time.Duration(wait)
}

// Total returns the sum of all waits without jitter: how long a delivery that
// always fails at once stays on its way.
func (s Schedule) Total() time.Duration {
	var total time.Duration
	for attempt := 1; attempt < s.MaxAttempts; attempt++ {
		total += s.nominal(attempt)
	}
	return total
}
