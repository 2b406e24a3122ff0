package top

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
)

func sampleSnapshot() *snapshot {
	nan := math.NaN()
	return &snapshot{
		at: time.Date(2026, 11, 24, 7, 8, 9, 0, time.UTC), interval: time.Second, gateways: 1, wantGateways: 1, senders: 1, wantSenders: 2,
		silent: []string{"10.0.0.2:9091: connection refused"},
		flows: []flow{
			{name: "events accepted", rate: 1234567.89, timed: true, p50: 0.0021, p99: 0.0005, note: "request to answer"},
			{name: "delivered", rate: nan, timed: true, p50: nan, p99: 300},
			{name: "failed attempts", rate: 3, note: "timeout 2.0, dns 1.0"},
		},
		inFlight: 64,
		queues:   []queue.QueueStats{{Queue: "deliver-00", Pending: 12, Active: 3, Archived: 1, OldestPending: 1500 * time.Millisecond}, {Queue: "retry-00", Scheduled: 7}},
		redis:    redisstore.Server{Used: 412 << 20, Limit: 1 << 30}, commands: 3120,
		backlogs: core.BacklogOverview{Endpoints: 3, Deliveries: 1204, Bytes: 3 << 20, Conditions: 4, ByState: map[core.State]int{core.StateFailing: 2, core.StateSlow: 1, core.StateCatchingUp: 1}},
		worst:    []trouble{{"acme", "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14", 12, 3, 15, "timeout"}, {Organization: "other", Endpoint: "e2", Slow: 4, Slowest: 1.5}},
	}
}

const wantScreen = `sealpost top  07:08:09  gateways 1/1  senders 1/2  every 1s
no answer from 10.0.0.2:9091: connection refused

                     per second        p50        p99
events accepted     1,234,567.9     2.1 ms     500 µs   request to answer
delivered                     -          -      5 min
failed attempts             3.0                         timeout 2.0, dns 1.0
in flight                    64

queue          pending    active scheduled     retry  archived     oldest
deliver-00          12         3         0         0         1      1.5 s
retry-00             0         0         7         0         0          -

Redis  412.0 MiB of 1.0 GiB (40 %), 3,120.0 commands a second
Backlogs  1204 deliveries of 3 endpoints, 3.0 MiB; endpoints: 2 failing, 0 paused, 0 throttled, 1 slow, 1 catching up

worst endpoints                        failed     slow    slowest   last reason    organization
f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14       12        3     15.0 s   timeout        acme
e2                                          0        4      1.5 s                  other`

func TestScreen(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(wantScreen, strings.Join(sampleSnapshot().lines(0, 0), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestScreenFits: whatever the size is, nothing stands out of it.
func TestScreenFits(t *testing.T) {
	t.Parallel()
	whole := strings.Split(wantScreen, "\n")
	for width := 1; width <= 100; width += 7 {
		for height := 1; height <= 24; height++ {
			lines := sampleSnapshot().lines(width, height)
			if len(lines) != min(height, len(whole)) {
				t.Fatalf("%d lines in a height of %d", len(lines), height)
			}
			for i, line := range lines {
				if utf8.RuneCountInString(line) > width || !strings.HasPrefix(whole[i], line) {
					t.Fatalf("width %d: line %q", width, line)
				}
			}
		}
	}
}

// TestScreenIsNotSteered: what comes from outside cannot command the terminal.
func TestScreenIsNotSteered(t *testing.T) {
	t.Parallel()
	s := sampleSnapshot()
	s.worst = []trouble{{Endpoint: "a\x1b[2Jb\rc\n"}}
	if text := strings.Join(s.lines(0, 0), "\n"); strings.ContainsAny(text, "\x1b\r") || !strings.Contains(text, "a?[2Jb?c?") {
		t.Errorf("%q", text)
	}
}

func TestScreenOfFailures(t *testing.T) {
	t.Parallel()
	s := sampleSnapshot()
	s.redisErr, s.worst, s.worstErr = errors.New("connection refused"), nil, errNotAvailable
	text := strings.Join(s.lines(0, 0), "\n")
	for _, want := range []string{"\nqueues and Redis: connection refused\n", "\nworst endpoints: not available"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "commands a second") {
		t.Errorf("a Redis that does not answer is shown:\n%s", text)
	}
	s.worstErr = nil
	if text := strings.Join(s.lines(0, 0), "\n"); !strings.HasSuffix(text, "worst endpoints: none") {
		t.Errorf("without any:\n%s", text)
	}
}

// TestScreenOfTrouble has backlogs that nobody works off, and more endpoints in
// trouble than are told apart.
func TestScreenOfTrouble(t *testing.T) {
	t.Parallel()
	s := sampleSnapshot()
	s.backlogs = core.BacklogOverview{Endpoints: 9, Deliveries: 70, Bytes: 512, Overdue: time.Minute, Conditions: 20_000}
	const want = "\nBacklogs  70 deliveries of 9 endpoints, 0.5 KiB, overdue for 60.0 s; 20000 endpoints not active\n"
	if text := strings.Join(s.lines(0, 0), "\n"); !strings.Contains(text, want) {
		t.Errorf("%q is missing in:\n%s", want, text)
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		number(0): "0.0", number(999.96): "1,000.0", number(1000): "1,000.0", number(12345678.26): "12,345,678.3", number(math.NaN()): "-",
		seconds(0.0000004): "0 µs", seconds(0.25): "250.0 ms", seconds(1): "1.0 s", seconds(119): "119.0 s", seconds(600): "10 min", seconds(86400): "24.0 h",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
