package gateway

import (
	"fmt"
	"time"

	"github.com/sealpost/sealpost/core"
)

// change is what a body asks to set on an endpoint; nil means not mentioned.
type change struct {
	url         *string // canonical
	events      []string
	description *string
	enabled     *bool
	maxAge      *time.Duration // 0: no limit any more
	rateLimit   *float64       // 0: no limit any more
	maxInFlight *int           // 0: no limit any more
	fifo        *bool
	drop        *bool
}

// endpointMembers lists what a body about an endpoint may mention.
func endpointMembers(more ...string) []string {
	return append([]string{"url", "events", "description", "max_age", "rate_limit", "max_in_flight", "ordering", "on_disable"}, more...)
}

// The values of ordering and on_disable, the default first.
const (
	orderingNone = "none"
	orderingFIFO = "fifo"
	disableHold  = "hold"
	disableDrop  = "drop"
)

// readChange judges the members of f. The error names every field that breaks a
// rule.
func (s *Server) readChange(f *form) (*change, error) {
	c := new(change)
	if raw, ok := f.text("url"); ok {
		canonical, err := s.o.CanonicalURL(raw)
		if err := f.errs.merge(err); err != nil {
			return nil, err
		}
		c.url = &canonical
	}
	if events, ok := f.texts("events"); ok {
		if err := f.errs.merge(s.catalogue.CheckEvents(events)); err != nil {
			return nil, err
		}
		c.events = events
	}
	if description, ok := f.text("description"); ok {
		if err := f.errs.merge(core.CheckDescription(description)); err != nil {
			return nil, err
		}
		c.description = &description
	}
	if enabled, ok := f.flag("enabled"); ok {
		c.enabled = &enabled
	}
	if age, ok := f.maxAge(); ok {
		c.maxAge = &age
	}
	c.readPace(f)
	return c, f.err()
}

// readPace judges the members that say how deliveries travel.
func (c *change) readPace(f *form) {
	rule := fmt.Sprintf("must be a number of attempts a second between %g and %d, or null", core.MinRateLimit, core.MaxRateLimit)
	if rate, ok := f.number("rate_limit", core.MinRateLimit, core.MaxRateLimit, rule); ok {
		c.rateLimit = &rate
	}
	rule = fmt.Sprintf("must be an integer between 1 and %d, or null", core.MaxMaxInFlight)
	if n, ok := f.number("max_in_flight", 1, core.MaxMaxInFlight, rule); ok {
		if whole := int(n); float64(whole) == n {
			c.maxInFlight = &whole
		} else {
			f.errs.add("max_in_flight", rule)
		}
	}
	if ordering, ok := f.choice("ordering", orderingNone, orderingFIFO); ok {
		fifo := ordering == orderingFIFO
		c.fifo = &fifo
	}
	if on, ok := f.choice("on_disable", disableHold, disableDrop); ok {
		drop := on == disableDrop
		c.drop = &drop
	}
}

// maxAge returns the member max_age; null is 0, no limit.
func (f *form) maxAge() (age time.Duration, ok bool) {
	const name = "max_age"
	if f.null(name) {
		return 0, true
	}
	text, ok := f.text(name)
	if !ok {
		return 0, false
	}
	if age, ok = core.ParseMaxAge(text); !ok {
		f.errs.add(name, core.RuleMaxAge+", or null")
	}
	return age, ok
}

// apply sets what the change mentions, unless the result contradicts itself. The
// URL's revision is the store's to count.
func (c *change) apply(e *core.Endpoint) error {
	if c.url != nil {
		e.URL = *c.url
	}
	if c.events != nil {
		e.EventTypes = c.events
	}
	if c.description != nil {
		e.Description = *c.description
	}
	if c.enabled != nil {
		e.Enabled, e.DisabledBy = *c.enabled, ""
	}
	if c.maxAge != nil {
		e.MaxAge = *c.maxAge
	}
	if c.rateLimit != nil {
		e.RateLimit = *c.rateLimit
	}
	if c.maxInFlight != nil {
		e.MaxInFlight = *c.maxInFlight
	}
	if c.fifo != nil {
		e.FIFO = *c.fifo
	}
	if c.drop != nil {
		e.Drop = *c.drop
	}
	return e.CheckPace()
}

func (c *change) empty() bool {
	return c.events == nil && c.description == nil && c.maxAge == nil && !c.concernsBacklog()
}

// concernsBacklog reports whether what waits for the endpoint may have to be
// treated in another way now.
func (c *change) concernsBacklog() bool {
	return c.url != nil || c.enabled != nil || c.rateLimit != nil || c.maxInFlight != nil || c.fifo != nil || c.drop != nil
}

// mustHoldAtOnce reports whether the answer promises that the old record counts
// nowhere any more: no request begins under it, and no event that is published
// after the endpoint was enabled is given up because a sender believes that it is
// disabled. It does not matter whether the record was already so: another change
// may have made it so a moment ago.
func (c *change) mustHoldAtOnce() bool { return c.url != nil || c.enabled != nil }
