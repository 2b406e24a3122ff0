package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// calmLog is a log behind a calm handler.
type calmLog struct {
	*slog.Logger
	end func()
	buf bytes.Buffer // written by the test itself, or under the lock of the counts
}

func newCalmLog() *calmLog {
	l := new(calmLog)
	h, end := newCalm(slog.NewJSONHandler(&l.buf, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l.Logger, l.end = slog.New(h), end
	return l
}

// lines returns how often each message was written since the last call, and how
// many lines were said to be left out.
func (l *calmLog) lines(t *testing.T) (written, leftOut map[string]int) {
	t.Helper()
	counts := l.Handler().(*calm).counts
	counts.mu.Lock()
	defer counts.mu.Unlock()
	written, leftOut = make(map[string]int), make(map[string]int)
	for line := range strings.Lines(l.buf.String()) {
		var r struct {
			Level, Msg, Message string
			Count               int
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Msg == "lines left out" {
			leftOut[r.Level+" "+r.Message] += r.Count
		} else {
			written[r.Level+" "+r.Msg]++
		}
	}
	l.buf.Reset()
	return written, leftOut
}

func TestCalm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newCalmLog()
		storm := func(n int) {
			for i := range n {
				l.With("worker", i).WithGroup("g").Warn("failed", "endpoint", i)
			}
		}
		storm(1000)
		l.Warn("another")
		l.Error("failed")
		for range 50 {
			l.Debug("attempt")
		}
		written, leftOut := l.lines(t)
		if fmt.Sprint(written) != "map[DEBUG attempt:50 ERROR failed:1 WARN another:1 WARN failed:10]" || len(leftOut) != 0 {
			t.Errorf("at once: %v, %v", written, leftOut)
		}
		time.Sleep(calmPause)
		synctest.Wait()
		if written, leftOut := l.lines(t); len(written) != 0 || fmt.Sprint(leftOut) != "map[WARN failed:990]" {
			t.Errorf("a second later: %v, %v", written, leftOut)
		}
		time.Sleep(10 * calmPause)
		if written, leftOut := l.lines(t); len(written)+len(leftOut) != 0 {
			t.Errorf("nothing happens, yet %v, %v", written, leftOut)
		}

		// A quiet message loses nothing, however long it goes on.
		for range 100 {
			l.Warn("failed")
			time.Sleep(time.Second / calmBurst)
		}
		if written, leftOut := l.lines(t); written["WARN failed"] != 100 || len(leftOut) != 0 {
			t.Errorf("ten a second: %v, %v", written, leftOut)
		}

		storm(15)
		l.end()
		if written, leftOut := l.lines(t); written["WARN failed"]+leftOut["WARN failed"] != 15 || leftOut["WARN failed"] == 0 {
			t.Errorf("at the end: %v, %v", written, leftOut)
		}
		time.Sleep(10 * calmPause)
		if written, leftOut := l.lines(t); len(written)+len(leftOut) != 0 {
			t.Errorf("after the end: %v, %v", written, leftOut)
		}
		l.Info("stopped")
		if written, _ := l.lines(t); written["INFO stopped"] != 1 {
			t.Error("a line after the end is lost")
		}
	})
}

// The memory is bounded whatever the messages are.
func TestCalmIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newCalmLog()
		for i := range 10 * calmMessages {
			l.Warn(fmt.Sprint("message ", i))
		}
		counts := l.Handler().(*calm).counts
		if n := len(counts.counts); n > calmMessages+1 {
			t.Errorf("%d messages are counted", n)
		}
		l.end()
		written, leftOut := l.lines(t)
		if len(written)+leftOut["WARN others"] != 10*calmMessages {
			t.Errorf("%d written, %v left out", len(written), leftOut)
		}
	})
}

// No line is lost without being counted, from however many goroutines.
func TestCalmCountsAll(t *testing.T) {
	t.Parallel()
	l := newCalmLog()
	const workers, each = 8, 500
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				l.Warn("failed")
			}
		})
	}
	wg.Wait()
	l.end()
	written, leftOut := l.lines(t)
	if n := written["WARN failed"] + leftOut["WARN failed"]; n != workers*each {
		t.Errorf("%d lines of %d are accounted for", n, workers*each)
	}
}
