package pace

import (
	"math"
	"time"
)

// burstTime is how much of a rate may begin at once: 50 ms worth, and one attempt
// at least.
const burstTime = 50 * time.Millisecond

// maxGap bounds the time between two attempts, for rates next to none.
const maxGap = time.Hour

// rate is the generic cell rate algorithm: attempts begin a gap apart, and some
// earlier, within the burst. In any interval t at most t·rate + burst begin,
// burst being max(1, 50 ms · rate).
type rate struct {
	gap   time.Duration // between two attempts; 0: there is no rate
	ahead time.Duration // how much sooner than at its turn an attempt may begin
	turn  time.Time     // when the next attempt has its turn: the allowance is full from then on
	asked time.Time     // the newest time it was told
}

// set changes the rate to perSecond; 0 is none. What has been used of the
// allowance stays used, in attempts.
func (r *rate) set(perSecond float64) {
	before := *r
	r.gap, r.ahead = 0, 0
	if perSecond > 0 {
		r.gap = time.Duration(min(math.Ceil(float64(time.Second)/perSecond), float64(maxGap)))
		r.ahead = max(burstTime-r.gap, 0)
	}
	if used := before.turn.Sub(r.asked); used > 0 && before.gap > 0 {
		r.turn = r.asked.Add(time.Duration(float64(used) / float64(before.gap) * float64(r.gap)))
	}
}

// wait returns how long the next attempt has to wait.
func (r *rate) wait(now time.Time) time.Duration {
	r.tell(now)
	return max(r.turn.Add(-r.ahead).Sub(now), 0)
}

// take uses the allowance for one attempt.
func (r *rate) take(now time.Time) {
	r.tell(now)
	if r.turn.Before(now) {
		r.turn = now
	}
	r.turn = r.turn.Add(r.gap)
}

// rest returns how long it takes until the allowance is full again.
func (r *rate) rest(now time.Time) time.Duration { return max(r.turn.Sub(now), 0) }

func (r *rate) tell(now time.Time) {
	if now.After(r.asked) {
		r.asked = now
	}
}
