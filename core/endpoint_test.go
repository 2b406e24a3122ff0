package core

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRotate(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	e := Endpoint{Secrets: []Secret{{Version: 1, CreatedAt: now}}}

	if err := e.Rotate(Secret{Version: 2}, 24*time.Hour, now); err != nil {
		t.Fatal(err)
	}
	if len(e.Secrets) != 2 || e.Secrets[0].Version != 2 || !e.Secrets[1].ExpiresAt.Equal(now.Add(24*time.Hour)) {
		t.Fatalf("after the first rotation: %+v", e.Secrets)
	}
	// A second rotation keeps the first secret's own expiry.
	later := now.Add(time.Hour)
	if err := e.Rotate(Secret{Version: 3}, time.Hour, later); err != nil {
		t.Fatal(err)
	}
	if got := e.Secrets[2].ExpiresAt; !got.Equal(now.Add(24 * time.Hour)) {
		t.Errorf("the oldest secret now expires at %v, want its own expiry kept", got)
	}
	if got := e.Secrets[1].ExpiresAt; !got.Equal(later.Add(time.Hour)) {
		t.Errorf("the retired secret expires at %v, want an hour after its rotation", got)
	}
	if got := len(e.ValidSecrets(now.Add(3 * time.Hour))); got != 2 {
		t.Errorf("%d secrets are valid after three hours, want the current one and the oldest", got)
	}

	// Five retired ones valid at once and no more: the sixth rotation is refused.
	for v := uint32(4); v <= 6; v++ {
		if err := e.Rotate(Secret{Version: v}, time.Hour, later); err != nil {
			t.Fatal(err)
		}
	}
	before := len(e.Secrets)
	err := e.Rotate(Secret{Version: 7}, time.Hour, later)
	if CodeOf(err) != CodeConflict || len(e.Secrets) != before || e.Secrets[0].Version != 6 {
		t.Errorf("a sixth retired secret: %v, secrets %+v; want a conflict and no change", err, e.Secrets)
	}
	// No overlap retires all, and is possible even then.
	if err := e.Rotate(Secret{Version: 7}, 0, later); err != nil || len(e.Secrets) != 1 {
		t.Errorf("rotation without overlap: %v, %+v; want the new secret alone", err, e.Secrets)
	}
}

func TestCheckEvents(t *testing.T) {
	t.Parallel()
	types := DefaultEventTypes()
	tests := []struct {
		name  string
		in    []string
		field string
	}{
		{name: "one", in: []string{"call.qualified"}},
		{name: "all", in: types},
		{name: "none", in: nil, field: "events"},
		{name: "unknown", in: []string{"call.qualified", "call.lost"}, field: "events[1]"},
		{name: "twice", in: []string{"lead.created", "call.received", "lead.created"}, field: "events[2]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := types.CheckEvents(tt.in)
			var e *Error
			switch {
			case tt.field == "" && err != nil:
				t.Errorf("CheckEvents = %v, want nil", err)
			case tt.field != "" && (!errors.As(err, &e) || e.Code != CodeInvalid || e.Fields[0].Field != tt.field):
				t.Errorf("CheckEvents = %v, want %s about %s", err, CodeInvalid, tt.field)
			}
		})
	}
}

func TestValidEventType(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"invoice.paid": true, "a": true, "a_1.B": true,
		"": false, ".": false, "a.": false, ".a": false, "a..b": false, "a-b": false, strings.Repeat("a", 129): false,
	} {
		if got := ValidEventType(s); got != want {
			t.Errorf("ValidEventType(%q) = %t, want %t", s, got, want)
		}
	}
	for _, s := range DefaultEventTypes() {
		if !ValidEventType(s) {
			t.Errorf("the catalogue holds %q, which is not a valid event type", s)
		}
	}
}

func TestCheckDescription(t *testing.T) {
	t.Parallel()
	if err := CheckDescription(strings.Repeat("d", MaxDescriptionLength)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{strings.Repeat("d", MaxDescriptionLength+1), "\xff"} {
		if CodeOf(CheckDescription(bad)) != CodeInvalid {
			t.Errorf("CheckDescription accepts %q", bad)
		}
	}
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	wrapped := errors.Join(errors.New("other"), Unavailable("later", cause))
	if got := CodeOf(wrapped); got != CodeUnavailable {
		t.Errorf("CodeOf(wrapped) = %q", got)
	}
	if !errors.Is(wrapped, cause) {
		t.Error("the cause is not in the chain")
	}
	if CodeOf(nil) != "" || CodeOf(cause) != CodeInternal {
		t.Error("CodeOf: want \"\" for nil and internal for a foreign error")
	}
	seen := make(map[Code]bool)
	for _, c := range Codes() {
		if seen[c] {
			t.Errorf("Codes lists %q twice", c)
		}
		seen[c] = true
	}
}
