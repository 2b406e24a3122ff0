package pace

import "time"

// Pace says how much of a backlog may be in flight at its endpoint, by additive
// increase and multiplicative decrease, and how fast it may be sent, by an
// optional rate. Make one with New.
//
// The window begins at 2 and grows by one with every good result until the first
// setback, then by one with every window full of them. A setback is a failure, a
// busy answer, or one that took far longer than the best (4 times + 250 ms): it
// halves the window. Answers that took longer than usual (2 times + 100 ms) keep
// it as it is. Results of attempts that began before the window was last lowered
// change nothing: they tell of a load that is no more.
type Pace struct {
	window  int
	most    int // bound of the window
	ramping bool
	good    int       // good results since the window last grew
	lowered time.Time // when the window was last lowered
	usual   baseline
	rate    rate
}

// firstWindow is the window of a pace that knows nothing yet.
const firstWindow = 2

// New returns a pace that knows nothing of its endpoint yet. At most maxInFlight
// attempts, one at least, will be in flight; rate is in attempts a second, 0 for
// none.
func New(now time.Time, maxInFlight int, rate float64) *Pace {
	p := &Pace{window: firstWindow, ramping: true, usual: baseline{since: now}}
	p.rate.tell(now)
	p.SetLimits(maxInFlight, rate)
	return p
}

// SetLimits changes the limits that New was given, from now on.
func (p *Pace) SetLimits(maxInFlight int, rate float64) {
	p.most = max(maxInFlight, 1)
	p.window = min(p.window, p.most)
	p.rate.set(rate)
}

// MayStart reports whether an attempt may begin while inFlight are. If not, and
// wait is above 0, the rate allows the next one after it; if wait is 0, a result
// has to come first.
func (p *Pace) MayStart(now time.Time, inFlight int) (ok bool, wait time.Duration) {
	if inFlight >= p.window {
		return false, 0
	}
	wait = p.rate.wait(now)
	return wait == 0, wait
}

// Started takes in that an attempt began.
func (p *Pace) Started(now time.Time) { p.rate.take(now) }

// Window returns how many attempts may be in flight, 1 at least.
func (p *Pace) Window() int { return p.window }

// Rest returns how long it takes until the rate's allowance is full again: a
// drain that ends earlier would give its successor a burst. It is 0 without a
// rate.
func (p *Pace) Rest(now time.Time) time.Duration { return p.rate.rest(now) }

// Note takes in the result of an attempt.
func (p *Pace) Note(r Result) {
	took := r.took()
	if !r.bad() && p.usual.add(r.Ended, took) {
		// The endpoint has become slower, or it was made so by what is sent to it.
		// Far less load tells which. (The ramp up ends at about twice the window that
		// makes answers take twice as long; with a quarter of it, what an endpoint takes
		// under the load of one ramp would be the baseline of the next.)
		p.lower(r.Ended, p.window/8)
		p.ramping = true
		return
	}
	if !r.Began.After(p.lowered) {
		return
	}
	switch {
	case r.bad():
		p.lower(r.Ended, p.window/2)
	case took > p.usual.lowest*4+250*time.Millisecond:
		if p.window == 1 { // it had the window to itself: this is how long the endpoint takes
			p.usual.reset(r.Ended, took)
		}
		p.lower(r.Ended, p.window/2)
	case took <= p.usual.lowest*2+100*time.Millisecond:
		p.grow()
	}
}

func (p *Pace) lower(at time.Time, window int) {
	p.window = max(window, 1)
	p.good = 0
	p.ramping = false
	p.lowered = at
}

func (p *Pace) grow() {
	p.good++
	if p.window < p.most && (p.ramping || p.good >= p.window) {
		p.window++
		p.good = 0
	}
}
