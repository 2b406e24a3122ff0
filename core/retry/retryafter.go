package retry

import (
	"net/http"
	"strings"
	"time"
)

// MaxRetryAfter bounds what a Retry-After header can ask for: an endpoint may
// slow us down, not park a delivery.
const MaxRetryAfter = time.Hour

// maxRetryAfterLength is above the longest HTTP-date, in bytes.
const maxRetryAfterLength = 64

// ParseRetryAfter reads the value of a Retry-After header (RFC 9110, 10.2.3):
// whole seconds, or an HTTP-date, which is counted from now. More than
// MaxRetryAfter becomes MaxRetryAfter; a date that has passed is 0. ok is false
// when v is neither.
func ParseRetryAfter(v string, now time.Time) (wait time.Duration, ok bool) {
	v = strings.Trim(v, " \t")
	if v == "" || len(v) > maxRetryAfterLength {
		return 0, false
	}
	if seconds, ok := parseSeconds(v); ok {
		return seconds, true
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	// Sub saturates, so a year like 9999 is no danger.
	return min(max(at.Sub(now), 0), MaxRetryAfter), true
}

// parseSeconds reads digits only: no sign, fraction or exponent.
func parseSeconds(v string) (time.Duration, bool) {
	var wait time.Duration
	for i := range len(v) {
		c := v[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		// Capped at every digit, so it cannot overflow.
		wait = min(wait*10+time.Duration(c-'0')*time.Second, MaxRetryAfter)
	}
	return wait, true
}
