package core

import (
	"strings"
	"time"
)

// Bounds of a max_age.
const (
	MinMaxAge = time.Second
	MaxMaxAge = 720 * time.Hour // longer than any schedule lasts by default; as long as dead letters are kept
)

// RuleMaxAge is what a max_age has to be.
const RuleMaxAge = `must be a duration between "1s" and "720h"`

// ParseMaxAge reads a max_age, a duration like "90s" or "24h", down to
// milliseconds. ok is false if RuleMaxAge is broken.
func ParseMaxAge(text string) (age time.Duration, ok bool) {
	age, err := time.ParseDuration(text)
	if err != nil || age < MinMaxAge || age > MaxMaxAge {
		return 0, false
	}
	return age.Truncate(time.Millisecond), true
}

// FormatMaxAge writes a max_age so that ParseMaxAge reads the same: "24h", not
// "24h0m0s".
func FormatMaxAge(age time.Duration) string {
	text := age.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// TooOld returns from when on no attempt of a delivery of ev to endpoint may
// begin, the smaller max_age of both counting; zero: never. endpoint may be nil.
func (ev *Event) TooOld(endpoint *Endpoint) time.Time {
	age := ev.MaxAge
	if endpoint != nil && endpoint.MaxAge > 0 && (age == 0 || endpoint.MaxAge < age) {
		age = endpoint.MaxAge
	}
	if age == 0 {
		return time.Time{}
	}
	return ev.AcceptedAt.Add(age)
}
