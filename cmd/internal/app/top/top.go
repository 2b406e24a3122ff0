// Package top shows a running Sealpost in a terminal: what flows through it, how
// long it takes, what waits, and how full Redis is. It reads the metrics of the
// processes and Redis, and changes nothing.
package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
)

// Bounds of Options.
const (
	MinInterval  = 200 * time.Millisecond
	MaxAddresses = 64 // gateways and senders together
)

// minPatience is how long an answer may take at least, however short the
// interval is.
const minPatience = 2 * time.Second

// keyInterval is how long a key may wait to be seen.
const keyInterval = 50 * time.Millisecond

// Options say what is shown, and how. Store and Queues stay the caller's.
type Options struct {
	Gateways []string // admin addresses
	Senders  []string
	Store    *redisstore.Store
	Queues   *queue.Collector
	Interval time.Duration // between two screens
	Once     bool          // one snapshot, then the end
	Out      io.Writer
	Terminal *Terminal // nil: Out is none, or shall not be treated as one
}

func (o *Options) validate() error {
	switch {
	case o.Interval < MinInterval:
		return fmt.Errorf("the interval %v is shorter than %v", o.Interval, MinInterval)
	case len(o.Gateways)+len(o.Senders) > MaxAddresses:
		return fmt.Errorf("%d addresses are more than %d", len(o.Gateways)+len(o.Senders), MaxAddresses)
	}
	return nil
}

// view is a running top.
type view struct {
	o         Options
	addresses []string // of all processes, each once: dev is both
	client    *http.Client
	shown     *snapshot
	width     int // of the last screen
	height    int
}

// errQuit ends a wait because somebody pressed q.
var errQuit = errors.New("quit")

// Run shows a snapshot each interval until ctx ends or q is pressed, which is no
// error. With Once it shows one, after a single interval, and says with an error
// when nobody answered.
func Run(ctx context.Context, o Options) error {
	if err := o.validate(); err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 2, DisableCompression: true}
	defer transport.CloseIdleConnections()
	v := &view{o: o, client: &http.Client{Transport: transport}}
	for _, address := range slices.Concat(o.Gateways, o.Senders) {
		if !slices.Contains(v.addresses, address) {
			v.addresses = append(v.addresses, address)
		}
	}
	err := v.run(ctx)
	if errors.Is(err, errQuit) || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

func (v *view) run(ctx context.Context) error {
	before, err := v.look(ctx)
	if err != nil {
		return err
	}
	if !v.o.Once {
		if err := v.show(v.compare(look{}, before)); err != nil {
			return err
		}
	}
	for {
		next, cancel := context.WithDeadline(ctx, before.at.Add(v.o.Interval))
		err := v.await(ctx, next.Done())
		cancel()
		if err != nil {
			return err
		}
		now, err := v.look(ctx)
		if err != nil {
			return err
		}
		if err := v.show(v.compare(before, now)); err != nil {
			return err
		}
		if v.o.Once {
			return nobody(&now)
		}
		before = now
	}
}

// nobody returns an error when there was nothing to show.
func nobody(l *look) error {
	if l.redisErr == nil {
		return nil
	}
	for _, process := range l.processes {
		if process.err == nil {
			return nil
		}
	}
	return errors.New("neither a gateway nor a sender nor Redis answers")
}

// look asks everybody, and watches the keys meanwhile.
func (v *view) look(ctx context.Context) (look, error) {
	asking, cancel := context.WithTimeout(ctx, max(v.o.Interval, minPatience))
	defer cancel()
	var l look
	done := make(chan struct{})
	go func() {
		defer close(done)
		l = v.lookAround(asking)
	}()
	err := v.await(ctx, done)
	cancel()
	<-done
	return l, err
}

// await returns nil when done is closed, and errQuit or the error of ctx when
// the end comes first. It draws anew when the terminal changes its size.
func (v *view) await(ctx context.Context, done <-chan struct{}) error {
	if v.o.Terminal == nil {
		select {
		case <-done:
			return ctx.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return ctx.Err()
		default:
		}
		if v.o.Terminal.quitPressed(keyInterval) {
			return errQuit
		}
		if width, height := v.o.Terminal.size(); v.shown != nil && (width != v.width || height != v.height) {
			if err := v.draw(); err != nil {
				return err
			}
		}
	}
}

func (v *view) show(s snapshot) error {
	v.shown = &s
	return v.draw()
}

// draw writes the snapshot: over the last one on a terminal, else below it.
func (v *view) draw() error {
	if v.o.Terminal != nil {
		v.width, v.height = v.o.Terminal.size()
		return v.o.Terminal.draw(v.shown.lines(v.width, v.height))
	}
	text := strings.Join(v.shown.lines(0, 0), "\n") + "\n"
	if !v.o.Once {
		text += "\n"
	}
	_, err := io.WriteString(v.o.Out, text)
	return err
}
