package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// group runs components side by side and stops them in the reverse order of
// their start, each only after the one that uses it is gone.
type group struct {
	log     *slog.Logger
	onEnd   func() // called when a component has returned
	members []*member
	ended   chan *member // a member whose run returned by itself; capacity: all members
}

type member struct {
	name string
	stop context.CancelFunc
	done chan struct{}
	err  error // valid once done is closed
}

// maxMembers bounds a group; wiring is static, so exceeding it is a bug.
const maxMembers = 16

// newGroup returns an empty group. onEnd tells those outside who depend on its
// components that one has returned.
func newGroup(log *slog.Logger, onEnd func()) *group {
	return &group{log: log, onEnd: onEnd, ended: make(chan *member, maxMembers)}
}

// start runs a component. run has to return after its context ends, once all
// that it started is gone.
func (g *group) start(name string, run func(context.Context) error) {
	if len(g.members) == maxMembers {
		panic("BUG: more components than a group holds")
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &member{name: name, stop: stop, done: make(chan struct{})}
	g.members = append(g.members, m)
	go func() {
		m.err = run(ctx)
		close(m.done)
		g.ended <- m
		g.onEnd()
	}()
}

// wait blocks until ctx ends or a component returns, then stops all and returns
// their errors joined. A component that returns before it was asked to is a
// failure, whatever it returned.
func (g *group) wait(ctx context.Context, stopping func()) error {
	var early error
	select {
	case <-ctx.Done():
		g.log.Info("stopping", "note", "what is under way is finished first; a second signal ends at once")
	case m := <-g.ended:
		early = fmt.Errorf("%s ended: %w", m.name, errors.Join(m.err, errStoppedEarly))
	}
	stopping()
	return errors.Join(early, g.stopAll())
}

var errStoppedEarly = errors.New("it stopped although nobody asked it to")

// stopAll stops the components, newest first, and returns their errors joined.
func (g *group) stopAll() error {
	var errs []error
	for _, m := range slices.Backward(g.members) {
		m.stop()
		<-m.done
		if m.err != nil && !errors.Is(m.err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", m.name, m.err))
		}
	}
	g.members = nil
	return errors.Join(errs...)
}
