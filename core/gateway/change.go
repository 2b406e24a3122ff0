package gateway

import (
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
}

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
		if err := f.errs.merge(s.o.EventTypes.CheckEvents(events)); err != nil {
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
	return c, f.err()
}

// maxAge returns the member max_age; null is 0, no limit.
func (f *form) maxAge() (age time.Duration, ok bool) {
	const name = "max_age"
	if t, given := f.values[name]; given && string(f.scan.raw(t)) == "null" {
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

// apply sets what the change mentions. The URL's revision is the store's to
// count.
func (c *change) apply(e *core.Endpoint) {
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
}

func (c *change) empty() bool {
	return c.url == nil && c.events == nil && c.description == nil && c.enabled == nil && c.maxAge == nil
}

// mustHoldAtOnce reports whether the answer promises that the old record counts
// nowhere any more: no request begins under it, and no event that is published
// after the endpoint was enabled is given up because a sender believes that it is
// disabled. It does not matter whether the record was already so: another change
// may have made it so a moment ago.
func (c *change) mustHoldAtOnce() bool { return c.url != nil || c.enabled != nil }
