package retry_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core/retry"
)

var now = time.Date(2026, 11, 24, 7, 0, 0, 500_000_000, time.UTC)

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	date := func(d time.Duration, layout string) string { return now.Add(d).Format(layout) }
	tests := []struct {
		name, in string
		want     time.Duration
		ok       bool
	}{
		{name: "seconds", in: "120", want: 2 * time.Minute, ok: true},
		{name: "zero", in: "0", ok: true},
		{name: "leading zeros", in: "0007", want: 7 * time.Second, ok: true},
		{name: "white space", in: " \t5 ", want: 5 * time.Second, ok: true},
		{name: "at the limit", in: "3600", want: time.Hour, ok: true},
		{name: "above the limit", in: "3601", want: time.Hour, ok: true},
		{name: "beyond int64", in: strings.Repeat("9", 60), want: time.Hour, ok: true},
		{name: "IMF-fixdate", in: date(90*time.Second, http.TimeFormat), want: 89*time.Second + 500*time.Millisecond, ok: true},
		{name: "RFC 850", in: date(90*time.Second, "Monday, 02-Jan-06 15:04:05 GMT"), want: 89*time.Second + 500*time.Millisecond, ok: true},
		{name: "asctime", in: date(90*time.Second, time.ANSIC), want: 89*time.Second + 500*time.Millisecond, ok: true},
		{name: "date far away", in: "Fri, 31 Dec 9999 23:59:59 GMT", want: time.Hour, ok: true},
		{name: "date passed", in: date(-time.Minute, http.TimeFormat), ok: true},
		{name: "empty", in: ""},
		{name: "blank", in: "  "},
		{name: "negative", in: "-5"},
		{name: "signed", in: "+5"},
		{name: "fraction", in: "1.5"},
		{name: "exponent", in: "1e3"},
		{name: "with a unit", in: "5s"},
		{name: "two values", in: "5, 6"},
		{name: "other digits", in: "٥"},
		{name: "date of another format", in: now.Format(time.RFC3339)},
		{name: "too long", in: strings.Repeat("0", 65)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := retry.ParseRetryAfter(tt.in, now); got != tt.want || ok != tt.ok {
				t.Errorf("ParseRetryAfter(%q) = %v, %t; want %v, %t", tt.in, got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "99999999999999999999", "-1", "Fri, 31 Dec 9999 23:59:59 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v string) {
		wait, ok := retry.ParseRetryAfter(v, now)
		if wait < 0 || wait > retry.MaxRetryAfter || !ok && wait != 0 {
			t.Errorf("ParseRetryAfter(%q) = %v, %t", v, wait, ok)
		}
	})
}
