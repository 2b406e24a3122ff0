package main

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/bench/internal/proxy"
)

// soak draws one fault after the other until its time is over.
func soak(ctx context.Context, w *world) error {
	w.noted = notedBacklogs
	w.receiver.turn(take(10 * time.Millisecond))
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := w.noteGoroutines(ctx); err != nil {
		return err
	}
	for end := time.Now().Add(w.long(w.o.duration, 5*time.Second)); time.Now().Before(end); {
		var err error
		switch w.random.IntN(8) {
		case 0:
			err = w.killSender(ctx)
		case 1:
			err = w.termSenders(ctx, 1, 0)
			w.res.Injected++
		case 2:
			err = w.killGateway(ctx)
		case 3:
			err = w.killRedis(ctx)
		case 4:
			err = w.stopRedis(ctx, time.Duration(1+w.random.IntN(4))*time.Second)
		case 5:
			err = w.stack.Client.ScriptFlush(ctx).Err()
			w.each("", func(p *proxy.Proxy) { p.Reset() })
			w.res.Injected++
		case 6:
			w.mayRepeat() // an answer that a receiver gave may be on its way
			for _, l := range w.streams[0].links {
				w.res.Injected += l.Reset()
			}
		case 7:
			w.receiver.turn(func(_, endpoint int) answer {
				if endpoint == 0 {
					return answer{status: 503}
				}
				return answer{wait: 10 * time.Millisecond, status: 200}
			})
			err = sleep(ctx, time.Duration(1+w.random.IntN(4))*time.Second)
			w.receiver.turn(take(10 * time.Millisecond))
			w.res.Injected++
		}
		if err == nil {
			err = sleep(ctx, time.Duration(500+w.random.IntN(2000))*time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
