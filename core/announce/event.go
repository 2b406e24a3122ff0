package announce

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/core"
)

// timeLayout is how the API writes times: RFC 3339, UTC, milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// requested is the reason of what somebody asked for through the API.
const requested = "requested"

// subject is what an announcement says: the data of its event. What does not
// apply is left out.
type subject struct {
	EndpointID     string `json:"endpoint_id"`
	URL            string `json:"url"`
	Reason         string `json:"reason,omitempty"`
	FailingSince   string `json:"failing_since,omitempty"`
	DisableAt      string `json:"disable_at,omitempty"`
	WarningPercent int    `json:"warning_percent,omitempty"`
}

// newEvent returns the event with the body that receivers get, see
// publish.Freeze.
func newEvent(eventType string, s *subject, now time.Time) (*core.Event, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // URLs are full of what it would escape
	err := encoder.Encode(struct {
		Type      string   `json:"type"`
		Timestamp string   `json:"timestamp"`
		Data      *subject `json:"data"`
	}{eventType, timeText(now), s})
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return &core.Event{
		ID: core.NewEventID(now), Type: eventType, Body: bytes.TrimSuffix(body.Bytes(), []byte("\n")), AcceptedAt: now.UTC().Truncate(time.Millisecond),
	}, nil
}

// timeText returns "" for the zero time.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

func reasonText(r core.Reason) string {
	if r == "" {
		return requested
	}
	return string(r)
}

// shownURL leaves out the query: it often carries a token.
func shownURL(url string) string {
	shown, _, _ := strings.Cut(url, "?")
	return shown
}
