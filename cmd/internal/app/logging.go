package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// logger returns the logger that the settings ask for.
func (s *logSettings) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.Level(s.LogLevel)}
	text := s.LogFormat == "text"
	if f, ok := w.(*os.File); ok && s.LogFormat == "auto" {
		info, err := f.Stat()
		text = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if text {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// redisLog receives what go-redis has to say about single connections. It goes
// on at debug: whoever made the call gets the same as an error.
type redisLog struct{ log *slog.Logger }

// Printf is go-redis's interface of a logger.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, args...))
}
