package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// logger returns the logger that the settings ask for, and what has to be called
// when nothing is logged any more.
func (s *logSettings) logger(w io.Writer) (log *slog.Logger, end func()) {
	options := &slog.HandlerOptions{Level: slog.Level(s.LogLevel)}
	text := s.LogFormat == "text"
	if f, ok := w.(*os.File); ok && s.LogFormat == "auto" {
		info, err := f.Stat()
		text = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if text {
		handler = slog.NewTextHandler(w, options)
	}
	handler, end = newCalm(handler)
	return slog.New(handler), end
}

// redisLog receives what go-redis has to say about single connections. It goes
// on at debug: whoever made the call gets the same as an error.
type redisLog struct{ log *slog.Logger }

// Printf is go-redis's interface of a logger.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, args...))
}
