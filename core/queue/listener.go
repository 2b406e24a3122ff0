package queue

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// listenTimeout is how long a subscription may be silent before it is
	// pinged, and then how long the answer may take. While a dead one is not
	// noticed, tasks start a second late at most.
	listenTimeout = 10 * time.Second

	listenPause = time.Second // after a subscription failed
)

// listener hears the bells of a consumer's queues on one subscription.
type listener struct {
	client redis.UniversalClient
	logger *slog.Logger
	bells  map[string]*doorbell // by channel
}

// run listens until ctx ends.
func (l *listener) run(ctx context.Context) {
	deaf := false
	for ctx.Err() == nil {
		err := l.listen(ctx, &deaf)
		if ctx.Err() != nil {
			return
		}
		if !deaf {
			l.logger.Warn("doorbell subscription lost; tasks may start up to a second late", "error", err)
		}
		deaf = true
		t := time.NewTimer(listenPause)
		select {
		case <-ctx.Done():
			t.Stop()
		case <-t.C:
		}
	}
}

// listen hears one subscription until it breaks or ctx ends.
func (l *listener) listen(ctx context.Context, deaf *bool) error {
	channels := make([]string, 0, len(l.bells))
	for channel := range l.bells {
		channels = append(channels, channel)
	}
	slices.Sort(channels)
	ps := l.client.Subscribe(ctx, channels...)
	defer ps.Close()
	// A read does not watch ctx; closing the subscription ends it.
	defer context.AfterFunc(ctx, func() { _ = ps.Close() })()
	pinged := false
	for {
		message, err := ps.ReceiveTimeout(ctx, listenTimeout)
		if timedOut(err) && !pinged && ctx.Err() == nil {
			pinged, err = true, ps.Ping(ctx)
			message = nil
		} else if err == nil {
			pinged = false
		}
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case *redis.Message:
			l.ring(m.Channel)
		case *redis.Subscription:
			l.ring(m.Channel) // whatever rang before was not heard
			if *deaf {
				*deaf = false
				l.logger.Info("doorbell subscription restored")
			}
		}
	}
}

func (l *listener) ring(channel string) {
	if bell := l.bells[channel]; bell != nil {
		bell.ring()
	}
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
