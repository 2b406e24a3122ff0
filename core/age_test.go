package core

import (
	"testing"
	"time"
)

func TestMaxAge(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"1s": "1s", "90s": "1m30s", "24h": "24h", "720h": "720h", "1h30m": "1h30m", "60m": "1h", "1.5s": "1.5s",
		"1h0m1s": "1h0m1s", "1000.0004ms": "1s", "10m": "10m", "1h10m": "1h10m",
		"": "", "1": "", "999ms": "", "0s": "", "-1h": "", "720h1s": "", "soon": "", "9999999999h": "",
	} {
		age, ok := ParseMaxAge(text)
		if ok != (want != "") {
			t.Errorf("%q is read: %t", text, ok)
		}
		if !ok {
			continue
		}
		if got := FormatMaxAge(age); got != want {
			t.Errorf("%q is written as %q, want %q", text, got, want)
		}
		if again, ok := ParseMaxAge(FormatMaxAge(age)); !ok || again != age {
			t.Errorf("%q: %v, written and read again %v", text, age, again)
		}
	}
}

func TestTooOld(t *testing.T) {
	t.Parallel()
	const none = time.Duration(0)
	for _, tt := range []struct{ event, endpoint, want time.Duration }{
		{none, none, none}, {time.Hour, none, time.Hour}, {none, time.Minute, time.Minute},
		{time.Hour, time.Minute, time.Minute}, {time.Minute, time.Hour, time.Minute},
	} {
		at := time.Unix(1000, 0)
		ev := Event{AcceptedAt: at, MaxAge: tt.event}
		var want time.Time
		if tt.want != none {
			want = at.Add(tt.want)
		}
		if got := ev.TooOld(&Endpoint{MaxAge: tt.endpoint}); !got.Equal(want) {
			t.Errorf("%+v: %v, want %v", tt, got, want)
		}
	}
	if ev := (Event{}); !ev.TooOld(nil).IsZero() {
		t.Error("an event without an age gets too old")
	}
}
