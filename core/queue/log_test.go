package queue

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Five servers complain several times a second while Redis is away: one line in
// half a minute says as much.
func TestComplaintsAreNotRepeated(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	l := &asynqLogger{logger: slog.New(slog.NewTextHandler(&out, nil)), now: func() time.Time { return now }}
	for range 10 {
		l.Error("Dequeue error: ", "connection refused")
		l.Warn("Could not write server state")
	}
	l.Info("Starting processing")
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "Dequeue error: connection refused") {
		t.Errorf("%d lines; want the first complaint alone:\n%s", n, out.String())
	}
	now = now.Add(repeatInterval)
	l.Error("Dequeue error: ", "connection refused")
	if !strings.Contains(out.String(), "not_shown_before=19") || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("want a second complaint that counts the silent ones:\n%s", out.String())
	}
}
