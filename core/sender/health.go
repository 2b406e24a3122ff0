package sender

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/pace"
	"github.com/sealpost/sealpost/core/retry"
)

const (
	// maxCircuits bounds the endpoints in trouble that a sender knows. Those
	// forgotten begin with a clean slate.
	maxCircuits = 16384

	// foundFor is how long a sender goes by what it found out itself: long enough
	// that it is stored and read again by then.
	foundFor = 2 * time.Second

	// laneTime is how long a slow or throttled endpoint is served from its backlog
	// after it last was slow or throttled.
	laneTime = 10 * time.Second
)

// finding is what an attempt told about its endpoint beyond the delivery.
type finding struct {
	tried     bool           // there was an attempt, and so result
	failing   bool           // it failed, and nobody had noted that before
	recovered bool           // it succeeded, and had been noted as failing
	tooLong   bool           // it has done nothing but fail for so long that it is disabled
	warning   int            // percent of the time after which it is disabled; 0: not yet worth a warning
	result    pace.Result    // of it
	condition core.Condition // which the endpoint is found to be in; zero: none
}

// health is what a sender has found out about endpoints by itself. Healthy ones
// are unknown to it.
type health struct {
	busy atomic.Bool // circuits or found may hold something

	mu       sync.Mutex
	circuits *cache[string, *pace.Circuit] // by endpoint id
	found    *cache[string, foundCondition]
}

type foundCondition struct {
	condition core.Condition
	revision  uint64 // of the URL; 0: not known
	at        time.Time
}

func newHealth() *health {
	return &health{circuits: newCache[string, *pace.Circuit](maxCircuits), found: newCache[string, foundCondition](maxCircuits)}
}

// note takes in the result of an attempt and returns the state in which its
// endpoint is found to be because of it, if any.
func (h *health) note(endpoint string, r pace.Result) core.State {
	good := !r.Failed && r.Ended.Sub(r.Began) < pace.SlowAfter
	if good && !h.busy.Load() {
		return "" // no endpoint at all is in trouble
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c, known := h.circuits.get(endpoint)
	switch {
	case known:
	case good:
		return ""
	default:
		c = new(pace.Circuit)
		h.circuits.put(endpoint, c)
		h.busy.Store(true)
	}
	state := c.Note(r)
	if c.Forgettable(r.Ended) {
		h.circuits.remove(endpoint)
		h.busy.Store(h.circuits.size()+h.found.size() > 0)
	}
	return state
}

// overdue is note for an attempt that is still in flight.
func (h *health) overdue(endpoint, delivery string, now time.Time) core.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, known := h.circuits.get(endpoint)
	if !known {
		c = new(pace.Circuit)
		h.circuits.put(endpoint, c)
		h.busy.Store(true)
	}
	return c.Overdue(delivery, now)
}

// find notes a condition that this sender found at the URL of a revision, 0 for one
// that is not known. It reports whether that is news.
func (h *health) find(endpoint string, c core.Condition, revision uint64, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, known := h.found.get(endpoint)
	if known = known && now.Sub(old.at) <= foundFor; known && old.condition.State == core.StateFailing && c.State != core.StatePaused {
		return false // the graver one stays
	}
	h.found.put(endpoint, foundCondition{condition: c, revision: revision, at: now})
	h.busy.Store(true)
	return !known || old.condition.State != c.State
}

// parks reports whether a delivery to e goes to the backlog at now, and with which
// condition, zero if Redis knows it.
func (h *health) parks(e *core.Endpoint, now time.Time) (core.Condition, bool) {
	if e.Condition.Parks(now) {
		return core.Condition{}, true
	}
	if !h.busy.Load() {
		return core.Condition{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f, known := h.found.get(e.ID)
	if !known {
		return core.Condition{}, false
	}
	if now.Sub(f.at) > foundFor || f.revision != 0 && f.revision != e.URLRevision {
		h.found.remove(e.ID)
		h.busy.Store(h.circuits.size()+h.found.size() > 0)
		return core.Condition{}, false
	}
	return f.condition, f.condition.Parks(now)
}

// foundSince returns the condition in which this sender itself found the endpoint, at
// the URL of a revision, after since and within the last foundFor; zero: none.
func (h *health) foundSince(endpoint string, revision uint64, since, now time.Time) core.Condition {
	if !h.busy.Load() {
		return core.Condition{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f, known := h.found.get(endpoint)
	if !known || now.Sub(f.at) > foundFor || !f.condition.Since.After(since) || f.revision != 0 && f.revision != revision {
		return core.Condition{}
	}
	return f.condition
}

// failing reports whether e's circuit is open at now, as far as is known.
func (h *health) failing(e *core.Endpoint, now time.Time) bool {
	if e.Condition.State == core.StateFailing {
		return true
	}
	c, parks := h.parks(e, now)
	return parks && c.State == core.StateFailing
}

// resultOf is an attempt as the circuit sees it.
func resultOf(v *verdict, res *egress.Result) pace.Result {
	return pace.Result{
		Began: v.row.StartedAt, Ended: v.row.EndedAt(), Failed: v.reason != "", Busy: busy(res.Status), Delivery: v.delivery.ID,
	}
}

// busy reports whether a response with the status asks to go slower (Standard
// Webhooks 1.0.0, "Delivery success and failure").
func busy(status int) bool {
	return status == 429 || status == 502 || status == 503 || status == 504
}

// consider adds to v what its attempt under rec told about the endpoint. What
// failed in a bundle waits in the backlog rather than for a time of its own, once
// the circuit is open: it is caught up with the others then.
func (s *Sender) consider(v *verdict, rec *record, res *egress.Result, via way) {
	e, now := rec.endpoint, v.row.EndedAt()
	switch failed := v.reason != ""; {
	case !failed:
		v.recovered = !e.Failing.Since.IsZero()
	case e.Failing.Since.IsZero():
		v.failing = true
	default:
		s.considerFailing(v, rec, now)
	}
	v.tried, v.result = true, resultOf(v, res)
	state := s.health.note(e.ID, v.result)
	c := newCondition(state, now)
	if wait, ok := retry.ParseRetryAfter(res.RetryAfter, now); ok && wait > 0 {
		if state != core.StateFailing {
			c = core.Condition{State: core.StatePaused, Since: now}
		}
		c.Until = now.Add(max(wait, c.Until.Sub(now)))
	}
	if c.State != "" {
		s.found(v.delivery.Ref(), c, v.revision, now)
		v.condition = c
	}
	if via == express && v.step == stepRetry && s.health.failing(e, now) {
		v.step, v.delivery.Due, v.row.NextAt = stepPark, time.Time{}, laterOf(c.Until, now)
	}
}

// newCondition returns the condition of an endpoint that is found to be in state.
func newCondition(state core.State, now time.Time) core.Condition {
	switch state {
	case core.StateFailing:
		return core.Condition{State: state, Since: now, Until: now.Add(pace.ProbeInterval(0))}
	case core.StateSlow, core.StateThrottled:
		return core.Condition{State: state, Since: now, Until: now.Add(laneTime)}
	}
	return core.Condition{}
}

// found makes this sender go by c at once, and sets free what waits for a slot of
// the endpoint: it goes to the backlog.
func (s *Sender) found(ref core.EndpointRef, c core.Condition, revision uint64, now time.Time) {
	if s.health.find(ref.ID, c, revision, now) {
		s.metrics.conditions[c.State].Inc()
		s.logger.Info("endpoint is served from its backlog", "organization", ref.Organization, "endpoint", ref.ID,
			"state", c.State, "until", c.Until)
	}
	until := now.Add(foundFor)
	if c.Until.Before(until) {
		until = c.Until
	}
	s.limits.open(ref.ID, until)
}

// considerFailing looks how long the endpoint has done nothing but fail.
func (s *Sender) considerFailing(v *verdict, rec *record, now time.Time) {
	if s.disableAfter == 0 {
		return
	}
	failing := rec.endpoint.Failing
	percent := int(100 * now.Sub(failing.Since) / s.disableAfter)
	if percent >= 100 && failing.Warned == 0 {
		percent = 90 // nothing was tried for long: none is disabled without a warning
	}
	if percent >= 100 {
		v.tooLong = true
		return
	}
	for _, level := range []int{90, 75, 50} {
		if percent >= level {
			if failing.Warned < level {
				v.warning = level
			}
			return
		}
	}
}

// overdue is told by the watch of an attempt that has taken pace.SlowAfter.
func (s *Sender) overdue(d *core.Delivery, now time.Time) {
	if state := s.health.overdue(d.Endpoint, d.ID, now); state != "" {
		s.found(d.Ref(), newCondition(state, now), 0, now)
	}
}
