package app

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// calmBurst is how many lines with the same message pass in one second.
	calmBurst = 10

	// calmPause is when the lines that did not pass are summed up, after the first
	// of them.
	calmPause = time.Second

	// calmMessages bounds the messages that are counted. They are constants of the
	// code, far fewer; what comes beyond counts as one.
	calmMessages = 512
)

// calm is a slog.Handler that keeps a storm of one message from burying all
// others: when a thousand endpoints fail, ten lines and their number say as much.
// Lines at debug all pass: who asks for them wants them all.
type calm struct {
	slog.Handler
	counts *calmCounts // shared by all handlers made of this one
}

// newCalm returns a handler that writes to inner, and the function that sums up
// at the end.
func newCalm(inner slog.Handler) (h slog.Handler, end func()) {
	counts := &calmCounts{inner: inner, counts: make(map[calmKey]*calmCount)}
	return &calm{Handler: inner, counts: counts}, counts.end
}

// Handle writes the line, or counts it as left out.
func (c *calm) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo && !c.counts.pass(calmKey{r.Level, r.Message}) {
		return nil
	}
	return c.Handler.Handle(ctx, r)
}

// WithAttrs returns a handler that adds attributes.
func (c *calm) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &calm{Handler: c.Handler.WithAttrs(attrs), counts: c.counts}
}

// WithGroup returns a handler that qualifies the names of attributes.
func (c *calm) WithGroup(name string) slog.Handler {
	return &calm{Handler: c.Handler.WithGroup(name), counts: c.counts}
}

// calmKey tells which lines are alike.
type calmKey struct {
	level   slog.Level
	message string
}

type calmCount struct {
	second  int64 // Unix time
	passed  int   // in that second
	leftOut int   // not yet told
}

// calmCounts counts lines.
type calmCounts struct {
	inner slog.Handler

	mu     sync.Mutex
	counts map[calmKey]*calmCount
	timer  *time.Timer // runs sumUp; nil: nothing was left out
}

// pass counts a line and reports whether it is written.
func (c *calmCounts) pass(key calmKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.counts[key]
	if count == nil {
		if len(c.counts) >= calmMessages {
			key = calmKey{key.level, "others"}
		}
		if count = c.counts[key]; count == nil {
			count = new(calmCount)
			c.counts[key] = count
		}
	}
	if second := time.Now().Unix(); count.second != second {
		count.second, count.passed = second, 0
	}
	if count.passed < calmBurst {
		count.passed++
		return true
	}
	count.leftOut++
	if c.timer == nil {
		c.timer = time.AfterFunc(calmPause, c.sumUp)
	}
	return false
}

// sumUp tells how many lines were left out of each message. Lines that come
// meanwhile wait for it.
func (c *calmCounts) sumUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	for key, count := range c.counts {
		if count.leftOut == 0 {
			continue
		}
		r := slog.NewRecord(time.Now(), key.level, "lines left out", 0)
		r.AddAttrs(slog.String("message", key.message), slog.Int("count", count.leftOut))
		count.leftOut = 0
		_ = c.inner.Handle(context.Background(), r) // as slog.Logger does
	}
}

// end sums up what was left out and waits for a summing-up under way. Lines may
// come afterwards.
func (c *calmCounts) end() {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.sumUp()
}
