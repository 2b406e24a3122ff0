package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const (
	// stopPatience is how long handlers are left in the dark when servers do not
	// stop fetching, because Redis does not answer their last poll.
	stopPatience = 2 * time.Second

	// abortMargin is how long before the end of the shutdown handlers lose their
	// context, so that asynq still has time to put their tasks back.
	abortMargin = 500 * time.Millisecond

	// endHoldsTime bounds the ringing of the bells.
	endHoldsTime = 500 * time.Millisecond

	// lastGrace is how long after the end of the shutdown its last calls to
	// Redis may take.
	lastGrace = 5 * time.Second
)

// errShutdown is the cause of the end of a handler's context when the time for
// the shutdown is over.
var errShutdown = errors.New("the time for the shutdown is over")

// shutdown stops all servers, tells the handlers, and waits for both under one
// deadline.
func (c *Consumer) shutdown(lanes []lane, abort context.CancelCauseFunc) error {
	begin := time.Now()
	end := begin.Add(c.o.ShutdownTimeout)
	close(c.stopping)
	c.endHolds(lanes)
	await(begin.Add(stopPatience), all(lanes, (*asynq.Server).Stop))
	c.o.OnStop()

	// asynq alone would put the tasks back while their handlers run on.
	aborting := time.AfterFunc(time.Until(end)-abortMargin, func() { abort(errShutdown) })
	defer aborting.Stop()
	last := end.Add(lastGrace)
	var err error
	if !await(last, all(lanes, (*asynq.Server).Shutdown)) {
		err = errors.New("queue: servers did not shut down in time")
	}
	if !await(last, c.handlers.close()) {
		err = errors.Join(err, errors.New("queue: handlers did not end in time"))
	}
	return err
}

// endHolds rings every bell until the polls that are held back here end; those of
// other processes find nothing and wait again. Where that fails they end with
// their hold.
func (c *Consumer) endHolds(lanes []lane) {
	ctx, cancel := context.WithTimeout(context.Background(), endHoldsTime)
	defer cancel()
	_, _ = c.o.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, l := range lanes {
			ring(ctx, pipe, bellKey(l.queue), maxRings)
		}
		return nil
	})
}

// all calls f for every server at once and closes the channel when all returned.
func all(lanes []lane, f func(*asynq.Server)) <-chan struct{} {
	var wg sync.WaitGroup
	for _, l := range lanes {
		wg.Go(func() { f(l.server) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}

// await reports whether done is closed before end, or already.
func await(end time.Time, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
	}
	t := time.NewTimer(time.Until(end))
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// gate counts the running handlers, which asynq abandons when a lease is lost or
// a shutdown takes too long.
type gate struct {
	mu     sync.Mutex
	inside int
	empty  chan struct{} // made by close, closed when nobody is inside
}

// enter lets a handler in, unless the gate is closed.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.empty != nil {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
	}
}

// close lets nobody in any more. The channel is closed when everybody has left.
// It is called once.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.empty = make(chan struct{})
	if g.inside == 0 {
		close(g.empty)
	}
	return g.empty
}
