package core

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of an endpoint's fields.
const (
	MaxURLLength         = 2048 // bytes
	MaxDescriptionLength = 1024 // bytes
)

// RecordLifetime is how long a sender may use an endpoint's record, counted
// from the start of the read that fetched it. A request is begun only under a
// record younger than this.
const RecordLifetime = 200 * time.Millisecond

// ChangeDelay is how long the API waits between a change of an endpoint that
// must hold at once (deletion, disabling and enabling, another URL, another
// secret) and its answer. It exceeds RecordLifetime, so that the answer is a
// promise: no request begins under the old record any more.
const ChangeDelay = 250 * time.Millisecond

// Endpoint is a consumer's URL with its secrets, event types and state. The
// JSON form is the record in Redis, not the API's.
type Endpoint struct {
	ID           string        `json:"id"` // UUID
	Organization string        `json:"organization"`
	URL          string        `json:"url"` // canonical form
	URLRevision  uint64        `json:"url_revision"`
	EventTypes   []string      `json:"event_types"`
	Description  string        `json:"description"`
	Enabled      bool          `json:"enabled"`
	DisabledBy   Reason        `json:"disabled_by,omitempty"`      // why it is not enabled; empty: by request
	MaxAge       time.Duration `json:"max_age,omitempty"`          // ns; no attempt of an older event begins, see Event.TooOld; 0: no limit of its own
	MaxInFlight  int           `json:"max_in_flight,omitempty"`    // attempts at a time, over all senders; 0: no limit of its own
	RateLimit    float64       `json:"rate_limit,omitempty"`       // attempts a second, over all senders; 0: no limit
	FIFO         bool          `json:"fifo,omitempty"`             // one at a time, in the order of acceptance
	Drop         bool          `json:"drop_if_disabled,omitempty"` // while disabled, events create no delivery and waiting deliveries are given up; else both are held
	CreatedAt    time.Time     `json:"created_at"`
	Revision     uint64        `json:"revision"` // counted up by every change
	Secrets      []Secret      `json:"secrets"`  // newest first; the first is the current one

	// Condition and Failing are kept beside the record. They are filled in where
	// a sender reads the endpoint.
	Condition Condition `json:"-"`
	Failing   Failing   `json:"-"`
}

// Bounds of an endpoint's own limits.
const (
	MaxMaxInFlight = 1000
	MinRateLimit   = 0.01 // attempts a second
	MaxRateLimit   = 10_000
)

// Paced reports whether the endpoint has limits that hold over all senders. All
// its deliveries go through its backlog, which one drain works off.
func (e *Endpoint) Paced() bool { return e.FIFO || e.MaxInFlight > 0 || e.RateLimit > 0 }

// Holds reports whether the endpoint's deliveries wait until it is enabled.
func (e *Endpoint) Holds() bool { return !e.Enabled && !e.Drop }

// EndpointRef names an endpoint together with its organization, which is needed
// to find its record.
type EndpointRef struct {
	Organization string
	ID           string
}

// Ref returns the endpoint's name.
func (e *Endpoint) Ref() EndpointRef { return EndpointRef{Organization: e.Organization, ID: e.ID} }

// ValidSecrets returns those secrets that sign at now, newest first.
func (e *Endpoint) ValidSecrets(now time.Time) []Secret {
	valid := make([]Secret, 0, len(e.Secrets))
	for _, s := range e.Secrets {
		if s.ValidAt(now) {
			valid = append(valid, s)
		}
	}
	return valid
}

// Rotate makes fresh the current secret. The one that was current stays valid
// for overlap from now; an overlap of 0 retires all older secrets at once.
// Expired secrets are forgotten. If more than MaxRetiredSecrets would then be
// valid beside the current one, it returns a CodeConflict error and changes
// nothing.
func (e *Endpoint) Rotate(fresh Secret, overlap time.Duration, now time.Time) error {
	secrets := []Secret{fresh}
	if overlap > 0 {
		for _, s := range e.ValidSecrets(now) {
			if s.ExpiresAt.IsZero() {
				s.ExpiresAt = now.Add(overlap)
			}
			secrets = append(secrets, s)
		}
	}
	if len(secrets) > 1+MaxRetiredSecrets {
		return &Error{Code: CodeConflict, Detail: fmt.Sprintf("%d retired secrets are still valid; wait for one to expire, or rotate with overlap 0s", MaxRetiredSecrets)}
	}
	e.Secrets = secrets
	return nil
}

// EventTypes is the catalogue of event types that events and endpoints may name.
type EventTypes []string

// DefaultEventTypes returns the catalogue the product was founded with.
func DefaultEventTypes() EventTypes {
	return EventTypes{
		"call.received", "call.classified", "call.qualified", "lead.created", "lead.updated",
		"outreach.email.sent", "outreach.email.replied", "claim.scope.ready",
		"review.requested", "review.received", "audit.log.event",
	}
}

// Has reports whether the catalogue holds t.
func (ts EventTypes) Has(t string) bool { return slices.Contains(ts, t) }

// ValidEventType reports whether s can be in a catalogue: parts of
// `a-z A-Z 0-9 _` separated by single full stops, 128 bytes at most (Standard
// Webhooks 1.0.0, "Event types").
func ValidEventType(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" {
			return false
		}
		for i := range len(part) {
			c := part[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_') {
				return false
			}
		}
	}
	return true
}

// CheckEvents returns a CodeInvalid error about the field `events` unless types
// names at least one event type, each known and none twice.
func (ts EventTypes) CheckEvents(types []string) error {
	if len(types) == 0 {
		return Invalid("events", "at least one event type is required")
	}
	for i, t := range types {
		if !ts.Has(t) {
			return Invalid(fmt.Sprintf("events[%d]", i), "unknown event type; GET /api/v1/event-types lists all")
		}
		if slices.Contains(types[:i], t) {
			return Invalid(fmt.Sprintf("events[%d]", i), "named twice")
		}
	}
	return nil
}

// CheckPace returns a CodeInvalid error if the endpoint's limits contradict each
// other.
func (e *Endpoint) CheckPace() error {
	if e.FIFO && e.MaxInFlight > 1 {
		return Invalid("ordering", `"fifo" means one at a time: max_in_flight must be 1 or null`)
	}
	return nil
}

// CheckDescription returns a CodeInvalid error unless s is UTF-8 of at most
// MaxDescriptionLength bytes.
func CheckDescription(s string) error {
	if len(s) > MaxDescriptionLength {
		return Invalid("description", fmt.Sprintf("longer than %d bytes", MaxDescriptionLength))
	}
	if !utf8.ValidString(s) {
		return Invalid("description", "not valid UTF-8")
	}
	return nil
}
