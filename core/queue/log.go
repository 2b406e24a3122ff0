package queue

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hibiken/asynq"
)

// asynqLogger makes asynq write to slog. What asynq calls information (starting,
// stopping, waiting) is detail here. Fatal does not end the process: that is
// main's business, and asynq never calls it.
type asynqLogger struct{ logger *slog.Logger }

var _ asynq.Logger = asynqLogger{}

func (l asynqLogger) Debug(args ...any) { l.log(slog.LevelDebug, args) }
func (l asynqLogger) Info(args ...any)  { l.log(slog.LevelDebug, args) }
func (l asynqLogger) Warn(args ...any)  { l.log(slog.LevelWarn, args) }
func (l asynqLogger) Error(args ...any) { l.log(slog.LevelError, args) }
func (l asynqLogger) Fatal(args ...any) { l.log(slog.LevelError, args) }

func (l asynqLogger) log(level slog.Level, args []any) {
	if ctx := context.Background(); l.logger.Enabled(ctx, level) {
		l.logger.Log(ctx, level, "asynq: "+fmt.Sprint(args...))
	}
}

// asynqLevel spares asynq the making of lines that would not be written. Its
// debug lines, one per empty poll, never are.
func asynqLevel(logger *slog.Logger) asynq.LogLevel {
	if logger.Enabled(context.Background(), slog.LevelDebug) {
		return asynq.InfoLevel
	}
	return asynq.WarnLevel
}
