package publish

import (
	"fmt"
	"time"

	"github.com/sealpost/sealpost/core"
)

// Allowance is what an organization's quota has left.
type Allowance struct {
	Known  bool
	Events int           // that may be published at once
	Window time.Duration // until there are more: the whole quota, or what a refused request asked for
}

// checkBurst refuses what no waiting would let pass.
func checkBurst(r *Request, q core.Quota) *core.Error {
	if n := r.events(); q.Limits() && n > q.Burst {
		return &core.Error{
			Code: core.CodeTooLarge, Detail: fmt.Sprintf("the batch has %d events, the quota never lets more than %d pass at once: send fewer at a time", n, q.Burst),
		}
	}
	return nil
}

// events returns how many events r has, bad ones aside.
func (r *Request) events() int {
	n := 0
	for i := range r.Items {
		if r.Items[i].Err == nil {
			n++
		}
	}
	return n
}

// draw lists what w counts against its quota: each event, but not if it is a
// repetition, which only its claim can tell. first is w's first claim.
func (f *flush) draw(w *waiter, first int) {
	d := core.Draw{Organization: w.request.Organization}
	if w.claim >= 0 {
		d.PerClaim = w.request.events() // one claim for all
	} else {
		d.PerClaim = 1
		for i := range w.outcomes {
			if out := &w.outcomes[i]; out.event != nil && out.claim < 0 {
				d.Events++
			}
		}
	}
	f.draws = append(f.draws, d)
	f.drawClaims = append(f.drawClaims, [2]int{first, len(f.claims)})
}

// gathered returns the draws of the flush, with their claims.
func (f *flush) gathered() core.Draws {
	for i, c := range f.drawClaims {
		f.draws[i].Claims = f.claims[c[0]:c[1]]
	}
	return core.Draws{Quota: f.p.o.Quota, Requests: f.draws}
}

// applyQuota refuses what its quota had no room for, and notes for every request
// what is left. Of a refused one nothing is stored, and its claims are released.
func (f *flush) applyQuota() {
	q := f.p.o.Quota
	for i := range f.draws {
		d, w := &f.draws[i], f.waiters[i]
		w.allowance = Allowance{Known: true, Events: int(d.Left), Window: q.Wait(float64(q.Burst) - d.Left)}
		if d.Granted {
			continue
		}
		w.allowance.Window = max(q.Wait(float64(d.Cost)-d.Left), time.Second)
		if w.err == nil && w.answer == nil {
			w.skip(overQuota(d, q, w.allowance.Window))
		}
	}
}

// overQuota is the answer to a request that the quota had no room for.
func overQuota(d *core.Draw, q core.Quota, wait time.Duration) *core.Error {
	return &core.Error{
		Code:       core.CodeRateLimited,
		Detail:     fmt.Sprintf("%d events asked for, %d left of the organization's quota of %g events a second", d.Cost, int(d.Left), q.Rate),
		RetryAfter: wait,
	}
}
