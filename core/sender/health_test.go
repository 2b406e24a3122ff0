package sender

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

func TestFoundSince(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name     string
		found    uint64 // revision of the URL at which it was found
		revision uint64
		since    time.Time
		now      time.Time
		want     core.State
	}{
		{name: "news", found: 2, revision: 2, since: at.Add(-time.Millisecond), now: at, want: core.StateFailing},
		{name: "at any URL", revision: 2, since: at.Add(-time.Millisecond), now: at, want: core.StateFailing},
		{name: "known", found: 2, revision: 2, since: at, now: at},
		{name: "at an old URL", found: 1, revision: 2, since: at.Add(-time.Millisecond), now: at},
		{name: "just not too old", found: 2, revision: 2, since: at.Add(-time.Millisecond), now: at.Add(foundFor), want: core.StateFailing},
		{name: "too old", found: 2, revision: 2, since: at.Add(-time.Millisecond), now: at.Add(foundFor + 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHealth()
			if c := h.foundSince("e", tt.revision, tt.since, tt.now); c.State != "" {
				t.Fatalf("before anything is found: %+v", c)
			}
			h.find("e", core.Condition{State: core.StateFailing, Since: at}, tt.found, at)
			if c := h.foundSince("e", tt.revision, tt.since, tt.now); c.State != tt.want {
				t.Errorf("state %q; want %q", c.State, tt.want)
			}
			if c := h.foundSince("another", tt.revision, tt.since, tt.now); c.State != "" {
				t.Errorf("another endpoint: %+v", c)
			}
		})
	}
}
