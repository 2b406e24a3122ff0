package main

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// deliberateLoss has the receiver take one request and tell nobody.
func deliberateLoss(ctx context.Context, w *world) error {
	w.res.LostAtLeast, w.res.LostAtMost = 1, 1
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	dropped := make(chan struct{}, 1)
	w.receiver.turn(func(int, int) answer {
		select {
		case dropped <- struct{}{}:
			return answer{}
		default:
			return answer{status: 200}
		}
	})
	w.res.Injected++
	return sleep(ctx, time.Second)
}

// senderKill kills one sender after the other, and starts it again.
func senderKill(ctx context.Context, w *world) error {
	w.receiver.turn(take(10 * time.Millisecond))
	return w.killSenders(ctx, w.times(10, 2), 2*time.Second)
}

func (w *world) killSenders(ctx context.Context, n int, every time.Duration) error {
	for range n {
		if err := sleep(ctx, every); err != nil {
			return err
		}
		if err := w.killSender(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) killSender(ctx context.Context) error {
	i := w.random.IntN(senders)
	w.mayRepeat()
	w.stack.Senders[i].Kill()
	w.res.Injected++
	return w.stack.StartSender(ctx, i)
}

// senderTerm restarts one sender after the other in good order.
func senderTerm(ctx context.Context, w *world) error {
	w.receiver.turn(take(20 * time.Millisecond))
	return w.termSenders(ctx, w.times(20, 3), 500*time.Millisecond)
}

func (w *world) termSenders(ctx context.Context, n int, every time.Duration) error {
	for i := range n {
		if err := sleep(ctx, every); err != nil {
			return err
		}
		w.stack.Senders[i%senders].Stop()
		w.res.Injected++
		if err := w.stack.StartSender(ctx, i%senders); err != nil {
			return err
		}
	}
	return sleep(ctx, every)
}

// gatewayKill kills the gateway and starts it again at its address.
func gatewayKill(ctx context.Context, w *world) error {
	for range w.times(20, 3) {
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if err := w.killGateway(ctx); err != nil {
			return err
		}
	}
	return sleep(ctx, time.Second)
}

func (w *world) killGateway(ctx context.Context) error {
	w.stack.Gateway.Kill()
	w.res.Injected++
	return w.stack.StartGateway(ctx)
}

// drainKill kills senders while they work off what waited during an outage.
func drainKill(ctx context.Context, w *world) error {
	return w.outage(ctx, func() error { return w.killSenders(ctx, w.times(8, 2), 700*time.Millisecond) })
}

// drainTerm ends them in good order.
func drainTerm(ctx context.Context, w *world) error {
	return w.outage(ctx, func() error { return w.termSenders(ctx, w.times(8, 2), 500*time.Millisecond) })
}

// outage has the endpoint answer 503 for a while and does harm once its backlog is
// being worked off.
func (w *world) outage(ctx context.Context, harm func() error) error {
	w.noted = notedBacklogs
	w.receiver.turn(func(int, int) answer { return answer{status: 503} })
	if err := sleep(ctx, w.long(12*time.Second, 3*time.Second)); err != nil {
		return err
	}
	w.receiver.turn(take(15 * time.Millisecond))
	b := w.streams[0].books
	for end := time.Now().Add(40 * time.Second); b.count(&b.delivered) == 0; { // a probe comes every 30 s at the latest
		if time.Now().After(end) {
			return errors.New("the endpoint answers, and nothing comes")
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	w.res.Figures["waiting"] = float64(b.count(&b.outstanding))
	return harm()
}

// senderStop freezes a sender until its leases are over and others have its work,
// and lets it go on as if nothing had been.
func senderStop(ctx context.Context, w *world) error {
	w.receiver.turn(take(50 * time.Millisecond))
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	return w.stopSender(ctx, w.long(45*time.Second, 3*time.Second))
}

// drainStop does so while a backlog is worked off, whose claims end after 15 s.
func drainStop(ctx context.Context, w *world) error {
	return w.outage(ctx, func() error {
		// The endpoint is slow enough that its backlog lasts longer than the claim.
		w.receiver.turn(take(200 * time.Millisecond))
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		return w.stopSender(ctx, w.long(20*time.Second, 3*time.Second))
	})
}

// stopSender freezes a sender for d.
func (w *world) stopSender(ctx context.Context, d time.Duration) error {
	p := w.stack.Senders[w.random.IntN(senders)]
	w.mayRepeat()
	p.Signal(syscall.SIGSTOP)
	w.res.Injected++
	err := sleep(ctx, d)
	p.Signal(syscall.SIGCONT)
	if err != nil {
		return err
	}
	return sleep(ctx, 3*time.Second)
}

// fifoKill kills senders while an endpoint is served in strict order.
func fifoKill(ctx context.Context, w *world) error {
	w.noted = notedBacklogs
	w.receiver.turn(take(5 * time.Millisecond))
	return w.killSenders(ctx, w.times(6, 2), 1500*time.Millisecond)
}

// inOrder checks that each event arrived after those that were accepted before it.
func inOrder(_ context.Context, w *world) error {
	if b := w.streams[0].books; b.count(&b.overtaken) > 0 {
		w.broken("%d events arrived after a later one", b.count(&b.overtaken))
	}
	return nil
}

// take is the behaviour of endpoints that answer after d.
func take(d time.Duration) behaviour {
	return func(int, int) answer { return answer{wait: d, status: 200} }
}

// stopRedis freezes Redis for d.
func (w *world) stopRedis(ctx context.Context, d time.Duration) error {
	w.stack.Redis.Signal(syscall.SIGSTOP)
	defer w.stack.Redis.Signal(syscall.SIGCONT)
	w.res.Injected++
	return sleep(ctx, d)
}
