package redisstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

func attempt(endpoint string, n int, status core.Status) core.Attempt {
	a := core.Attempt{
		Delivery: fmt.Sprintf("whd_%d", n), Event: fmt.Sprintf("evt_%d", n), EventType: "call.received", Endpoint: endpoint,
		Number: 1, Status: status, ResponseStatus: 200, StartedAt: instant(n), Latency: 142 * time.Millisecond,
	}
	if status != core.StatusDelivered {
		a.ResponseStatus, a.Reason = 503, core.ReasonStatus5xx
	}
	if status == core.StatusRetrying {
		a.NextAt = a.StartedAt.Add(5 * time.Second)
	}
	return a
}

func TestRowRoundTrip(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		attempt core.Attempt
		row     string
	}{
		{
			name: "delivered", attempt: attempt("e", 1, core.StatusDelivered),
			row: "1|whd_1|1|delivered|evt_1|call.received|200||1764000001123|142|",
		},
		{
			name: "retrying", attempt: attempt("e", 2, core.StatusRetrying),
			row: "1|whd_2|1|retrying|evt_2|call.received|503|status_5xx|1764000002123|142|1764000007123",
		},
		{
			name:    "no response",
			attempt: core.Attempt{Delivery: "whd_3", Event: "e_-A9", EventType: "a", Endpoint: "e", Number: 12, Status: core.StatusFailed, Reason: core.ReasonTimeout, StartedAt: instant(0), Latency: 15 * time.Second},
			row:     "1|whd_3|12|failed|e_-A9|a|0|timeout|1764000000123|15000|",
		},
		{name: "zero", attempt: core.Attempt{Endpoint: "e"}, row: "1||0||||0|||0|"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if row := string(appendRow(nil, &tt.attempt)); row != tt.row {
				t.Errorf("row %s; want %s", row, tt.row)
			}
			got, err := parseRow("e", tt.row)
			noError(t, err)
			if diff := cmp.Diff(tt.attempt, got); diff != "" {
				t.Errorf("parseRow (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRowRefusesOthers(t *testing.T) {
	t.Parallel()
	for _, row := range []string{
		"", "1", "2|whd_1|1|delivered|evt_1|a|200||1764000001123|142|", "1|whd_1|x|delivered|evt_1|a|200||1764000001123|142|",
		"1|whd_1|1|delivered|evt_1|a|200||1764000001123|142", "1|whd_1|1|delivered|evt_1|a|200||x|142|", "1|whd_1|1|delivered|evt_1|a|200||1|142||",
	} {
		if a, err := parseRow("e", row); err == nil {
			t.Errorf("parseRow(%q) = %+v; want an error", row, a)
		}
	}
}

func FuzzParseRow(f *testing.F) {
	f.Add("1|whd_1|1|delivered|evt_1|call.received|200||1764000001123|142|")
	f.Fuzz(func(t *testing.T, row string) {
		a, err := parseRow("e", row)
		if err != nil {
			return
		}
		again, err := parseRow("e", string(appendRow(nil, &a)))
		if err != nil {
			t.Fatalf("the row of %+v cannot be read: %v", a, err)
		}
		if diff := cmp.Diff(a, again); diff != "" {
			t.Errorf("second reading (-first +second):\n%s", diff)
		}
	})
}
