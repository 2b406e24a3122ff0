package gateway

import (
	"strings"
	"time"

	"github.com/sealpost/sealpost/core"
)

// timeLayout is how the API writes times: RFC 3339, UTC, milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// optionalTime is nil, JSON null, for the zero time.
func optionalTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := formatTime(t)
	return &s
}

// optionalStatus is nil for 0: there was no response.
func optionalStatus(status int) *int {
	if status == 0 {
		return nil
	}
	return &status
}

// settingsJSON are the settings of an endpoint that are shown only where they
// are set.
type settingsJSON struct {
	MaxAge      string  `json:"max_age,omitempty"`
	RateLimit   float64 `json:"rate_limit,omitempty"`
	MaxInFlight int     `json:"max_in_flight,omitempty"`
	Ordering    string  `json:"ordering,omitempty"`
	OnDisable   string  `json:"on_disable,omitempty"`
}

func newSettingsJSON(e *core.Endpoint) settingsJSON {
	s := settingsJSON{RateLimit: e.RateLimit, MaxInFlight: e.MaxInFlight}
	if e.MaxAge != 0 {
		s.MaxAge = core.FormatMaxAge(e.MaxAge)
	}
	if e.FIFO {
		s.Ordering = orderingFIFO
	}
	if e.Drop {
		s.OnDisable = disableDrop
	}
	return s
}

// standingJSON is what is kept of an endpoint beside its record.
type standingJSON struct {
	State        core.State `json:"state"`
	PausedUntil  *string    `json:"paused_until"`  // null unless it is paused, or failing: then the next probe
	FailingSince *string    `json:"failing_since"` // null if its last attempt succeeded
	Backlog      int        `json:"backlog"`
}

func newStandingJSON(e *core.Endpoint, s *core.Standing, now time.Time) *standingJSON {
	out := &standingJSON{State: stateOf(e, s, now), FailingSince: optionalTime(s.Failing.Since), Backlog: s.Backlog}
	if out.State == core.StatePaused || out.State == core.StateFailing {
		out.PausedUntil = optionalTime(s.Condition.Until)
	}
	return out
}

// stateOf returns the state that an endpoint is in.
func stateOf(e *core.Endpoint, s *core.Standing, now time.Time) core.State {
	switch c := &s.Condition; {
	case !e.Enabled:
		return core.StateDisabled
	case c.Parks(now):
		return c.State
	case s.Backlog > 0 && c.State != "":
		return core.StateCatchingUp // what has ended left something behind
	default:
		return core.StateActive
	}
}

// endpointJSON is an endpoint as the API shows it.
type endpointJSON struct {
	ID                  string   `json:"id"`
	URL                 string   `json:"url"`
	Events              []string `json:"events"`
	Description         string   `json:"description"`
	SigningSecretPrefix string   `json:"signing_secret_prefix"`
	Enabled             bool     `json:"enabled"`
	DisabledReason      string   `json:"disabled_reason,omitempty"` // absent: it is enabled, or disabled by request
	settingsJSON
	CreatedAt          string  `json:"created_at"`
	LastDeliveryAt     *string `json:"last_delivery_at"`     // null before the first attempt
	LastDeliveryStatus *int    `json:"last_delivery_status"` // null before the first attempt, and without a response
	*standingJSON              // nil: left out
}

// newEndpointJSON returns e as it is shown under key. What stands beside its
// record is left out if standing is nil.
func newEndpointJSON(e *core.Endpoint, last *core.Attempt, standing *standingJSON, key *core.APIKey) endpointJSON {
	out := endpointJSON{
		ID: e.ID, URL: shownURL(e.URL, key), Events: shownEvents(e), Description: e.Description,
		SigningSecretPrefix: currentPrefix(e), Enabled: e.Enabled, settingsJSON: newSettingsJSON(e), CreatedAt: formatTime(e.CreatedAt),
		standingJSON: standing,
	}
	if !e.Enabled {
		out.DisabledReason = string(e.DisabledBy)
	}
	if last != nil {
		out.LastDeliveryAt = optionalTime(last.EndedAt())
		out.LastDeliveryStatus = optionalStatus(last.ResponseStatus)
	}
	return out
}

// createdJSON answers the creation of an endpoint: the only time, a rotation
// aside, that its secret is shown.
type createdJSON struct {
	ID                  string   `json:"id"`
	URL                 string   `json:"url"`
	Events              []string `json:"events"`
	Description         string   `json:"description"`
	SigningSecretPrefix string   `json:"signing_secret_prefix"`
	Enabled             bool     `json:"enabled"`
	settingsJSON
	CreatedAt     string `json:"created_at"`
	SigningSecret string `json:"signing_secret"`
	Warning       string `json:"_warning"`
}

func newCreatedJSON(e *core.Endpoint, secret string) createdJSON {
	return createdJSON{
		ID: e.ID, URL: e.URL, Events: shownEvents(e), Description: e.Description, SigningSecretPrefix: currentPrefix(e),
		Enabled: e.Enabled, settingsJSON: newSettingsJSON(e), CreatedAt: formatTime(e.CreatedAt), SigningSecret: secret, Warning: saveWarning,
	}
}

// deletedJSON answers a deletion.
type deletedJSON struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
}

// rotatedJSON answers a rotation.
type rotatedJSON struct {
	ID                  string `json:"id"`
	URL                 string `json:"url"`
	SigningSecretPrefix string `json:"signing_secret_prefix"`
	SigningSecret       string `json:"signing_secret"`
	Warning             string `json:"_warning"`
}

const saveWarning = "Save this signing_secret now. It will not be shown again."

// shownURL hides the query from keys that may only read: it often carries a
// token.
func shownURL(url string, key *core.APIKey) string {
	if key.Allows(core.ScopeAdmin) {
		return url
	}
	shown, _, _ := strings.Cut(url, "?")
	return shown
}

func shownEvents(e *core.Endpoint) []string {
	if e.EventTypes == nil {
		return []string{}
	}
	return e.EventTypes
}

func currentPrefix(e *core.Endpoint) string {
	if len(e.Secrets) == 0 {
		return ""
	}
	return e.Secrets[0].Prefix
}
