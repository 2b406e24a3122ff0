package pace

import "time"

// tally counts attempts of the last Window. It slides in steps, so it covers
// between five sixths of Window and all of it.
type tally struct {
	newest int64 // number of the newest step
	steps  [tallySteps]struct{ attempts, failed int }
}

const (
	tallySteps = 6
	tallyStep  = Window / tallySteps
)

// add counts an attempt that ended at. One that is older than Window is not
// counted.
func (t *tally) add(at time.Time, failed bool) {
	step := at.Unix() / int64(tallyStep/time.Second)
	switch {
	case step <= t.newest-tallySteps:
		return
	case step >= t.newest+tallySteps:
		*t = tally{newest: step}
	default:
		for t.newest < step {
			t.newest++
			t.steps[index(t.newest)].attempts, t.steps[index(t.newest)].failed = 0, 0
		}
	}
	s := &t.steps[index(step)]
	s.attempts++
	if failed {
		s.failed++
	}
}

// failing reports whether so many attempts failed that the circuit opens.
func (t *tally) failing() bool {
	attempts, failed := 0, 0
	for _, s := range t.steps {
		attempts += s.attempts
		failed += s.failed
	}
	return attempts >= WindowAttempts && float64(failed) >= FailureShare*float64(attempts)
}

// failed reports whether any attempt failed.
func (t *tally) failed() bool {
	for _, s := range t.steps {
		if s.failed > 0 {
			return true
		}
	}
	return false
}

func index(step int64) int { return int((step%tallySteps + tallySteps) % tallySteps) }
