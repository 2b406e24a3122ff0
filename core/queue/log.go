package queue

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

// repeatInterval is how often the servers of a consumer may complain. While
// Redis is away each of them does, several times a second.
const repeatInterval = 30 * time.Second

// asynqLogger makes asynq write to slog. What asynq calls information (starting,
// stopping, waiting) is detail here. Fatal does not end the process: that is
// main's business, and asynq never calls it. All servers of a consumer share one.
type asynqLogger struct {
	logger *slog.Logger
	now    func() time.Time

	mu     sync.Mutex
	last   time.Time // of the complaint that was written
	silent int       // complaints since then
}

var _ asynq.Logger = (*asynqLogger)(nil)

// Debug implements asynq.Logger.
func (l *asynqLogger) Debug(args ...any) { l.detail(args) }

// Info implements asynq.Logger.
func (l *asynqLogger) Info(args ...any) { l.detail(args) }

// Warn implements asynq.Logger.
func (l *asynqLogger) Warn(args ...any) { l.complain(slog.LevelWarn, args) }

// Error implements asynq.Logger.
func (l *asynqLogger) Error(args ...any) { l.complain(slog.LevelError, args) }

// Fatal implements asynq.Logger.
func (l *asynqLogger) Fatal(args ...any) { l.complain(slog.LevelError, args) }

func (l *asynqLogger) detail(args []any) {
	if ctx := context.Background(); l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.Log(ctx, slog.LevelDebug, "asynq: "+fmt.Sprint(args...))
	}
}

// complain writes a complaint, or leaves it at debug if there was one recently.
func (l *asynqLogger) complain(level slog.Level, args []any) {
	l.mu.Lock()
	now, silent := l.now(), l.silent
	loud := now.Sub(l.last) >= repeatInterval
	if loud {
		l.last, l.silent = now, 0
	} else {
		l.silent++
	}
	l.mu.Unlock()
	if !loud {
		l.detail(args)
		return
	}
	l.logger.Log(context.Background(), level, "asynq: "+fmt.Sprint(args...), "not_shown_before", silent)
}

// asynqLevel spares asynq the making of lines that would not be written. Its
// debug lines, one per empty poll, never are.
func asynqLevel(logger *slog.Logger) asynq.LogLevel {
	if logger.Enabled(context.Background(), slog.LevelDebug) {
		return asynq.InfoLevel
	}
	return asynq.WarnLevel
}
