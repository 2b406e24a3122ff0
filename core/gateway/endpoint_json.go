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

// endpointJSON is an endpoint as the API shows it.
type endpointJSON struct {
	ID                  string   `json:"id"`
	URL                 string   `json:"url"`
	Events              []string `json:"events"`
	Description         string   `json:"description"`
	SigningSecretPrefix string   `json:"signing_secret_prefix"`
	Enabled             bool     `json:"enabled"`
	MaxAge              string   `json:"max_age,omitempty"` // absent: no limit
	CreatedAt           string   `json:"created_at"`
	LastDeliveryAt      *string  `json:"last_delivery_at"`     // null before the first attempt
	LastDeliveryStatus  *int     `json:"last_delivery_status"` // null before the first attempt, and without a response
}

func newEndpointJSON(e *core.Endpoint, last *core.Attempt, key *core.APIKey) endpointJSON {
	out := endpointJSON{
		ID: e.ID, URL: shownURL(e.URL, key), Events: shownEvents(e), Description: e.Description,
		SigningSecretPrefix: currentPrefix(e), Enabled: e.Enabled, MaxAge: shownMaxAge(e), CreatedAt: formatTime(e.CreatedAt),
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
	MaxAge              string   `json:"max_age,omitempty"` // absent: no limit
	CreatedAt           string   `json:"created_at"`
	SigningSecret       string   `json:"signing_secret"`
	Warning             string   `json:"_warning"`
}

func newCreatedJSON(e *core.Endpoint, secret string) createdJSON {
	return createdJSON{
		ID: e.ID, URL: e.URL, Events: shownEvents(e), Description: e.Description, SigningSecretPrefix: currentPrefix(e),
		Enabled: e.Enabled, MaxAge: shownMaxAge(e), CreatedAt: formatTime(e.CreatedAt), SigningSecret: secret, Warning: saveWarning,
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

func shownMaxAge(e *core.Endpoint) string {
	if e.MaxAge == 0 {
		return ""
	}
	return core.FormatMaxAge(e.MaxAge)
}

func currentPrefix(e *core.Endpoint) string {
	if len(e.Secrets) == 0 {
		return ""
	}
	return e.Secrets[0].Prefix
}
