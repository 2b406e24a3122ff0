package queue

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// TestShutdownLetsHandlersFinish stops while a handler runs: it is told, ends in
// its own time, and its bundle is done.
func TestShutdownLetsHandlersFinish(t *testing.T) {
	t.Parallel()
	f := setup(t)
	started, told := make(chan struct{}), make(chan struct{})
	var stops atomic.Int32
	stop := f.consume(func(ctx context.Context, b *core.Bundle) error {
		close(started)
		<-told
		if ctx.Err() != nil {
			t.Errorf("the handler's context ended early: %v", context.Cause(ctx))
		}
		f.settleAll(b.Mark)
		return nil
	}, func(o *ConsumerOptions) { o.OnStop = func() { stops.Add(1); close(told) } })
	if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 20)); errs != nil {
		t.Fatal(errs)
	}
	receive(t, "start", started)
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	f.empty()
	if stops.Load() != 1 {
		t.Errorf("OnStop called %d times", stops.Load())
	}
}

// TestShutdownPutsBackWhatDoesNotFinish has a handler that waits for the end of
// its context. Its bundle is in the queue again, ready for another consumer.
func TestShutdownPutsBackWhatDoesNotFinish(t *testing.T) {
	t.Parallel()
	f := setup(t)
	started := make(chan struct{})
	stop := f.consume(func(ctx context.Context, b *core.Bundle) error {
		close(started)
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, errShutdown) {
			t.Errorf("cause %v; want %v", cause, errShutdown)
		}
		f.settle(b.Mark, 0) // what was in flight is still recorded
		return ctx.Err()
	}, func(o *ConsumerOptions) { o.ShutdownTimeout = time.Second })
	if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 20)); errs != nil {
		t.Fatal(errs)
	}
	receive(t, "start", started)
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	d, _ := f.stats()
	if d.Pending+d.Retry != 1 || d.Active != 0 || d.Archived != 0 {
		t.Fatalf("after the shutdown: %+v; want the task back", d)
	}
	handler, bundles := f.collect()
	f.consume(handler)
	f.hurry("deliver-00")
	b := receive(t, "second run", bundles)
	if !b.Settled[0] || b.Settled[1] {
		t.Errorf("settled %v; want only the first", b.Settled)
	}
}

// TestRollingRestart replaces consumers under load. A clean restart loses nothing
// and doubles nothing.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var mu sync.Mutex
	seen := make(map[string]int)
	handler := func(_ context.Context, b *core.Bundle) error {
		f.settleAll(b.Mark)
		mu.Lock()
		defer mu.Unlock()
		for _, d := range b.Deliveries {
			seen[d.ID]++
		}
		return nil
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
	const rounds, perRound = 5, 40
	p := f.producer()
	stop := f.consume(handler)
	want := 0
	for round := range rounds {
		for i := range perRound {
			ds := fanOut(event("evt_1", 0), 1+i%3)
			want += len(ds)
			if errs := p.Enqueue(t.Context(), ds); errs != nil {
				t.Fatal(errs)
			}
		}
		if round == rounds-1 {
			break
		}
		next := f.consume(handler, func(o *ConsumerOptions) { o.Registerer = prometheus.NewRegistry() })
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		stop = next
	}
	until(t, "everything delivered", func() bool { return count() == want })
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	f.empty()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was handed out %d times", id, n)
		}
	}
}

// TestShutdownReportsDeafHandlers has a handler that ignores everything.
func TestShutdownReportsDeafHandlers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	started, release := make(chan struct{}), make(chan struct{})
	stop := f.consume(func(context.Context, *core.Bundle) error {
		close(started)
		<-release
		return nil
	}, func(o *ConsumerOptions) { o.ShutdownTimeout = time.Second })
	if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 1)); errs != nil {
		t.Fatal(errs)
	}
	receive(t, "start", started)
	err := stop()
	close(release)
	if err == nil || !strings.Contains(err.Error(), "handlers") {
		t.Errorf("Run: %v; want the handlers named", err)
	}
}

// TestShutdownWhileRedisIsFrozen must end, whatever asynq waits for.
func TestShutdownWhileRedisIsFrozen(t *testing.T) {
	t.Parallel()
	for _, frozenFromStart := range []bool{true, false} {
		server := redistest.Start(t)
		client := impatient(t, server)
		f := setupWith(t, client)
		handler, _ := f.collect()
		if frozenFromStart {
			server.Pause()
		}
		stop := f.consume(handler, func(o *ConsumerOptions) { o.ShutdownTimeout = time.Second })
		if !frozenFromStart {
			until(t, "polls that are held", f.held)
			server.Pause()
		}
		ended := make(chan error, 1)
		go func() { ended <- stop() }()
		err := receive(t, "end of Run", ended)
		t.Logf("frozen from start %t: %v", frozenFromStart, err)
		server.Resume()
	}
}

// impatient returns a client with the short timeouts of a real one.
func impatient(t *testing.T, server *redistest.Server) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Network: "unix", Addr: server.SocketPath(), DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		ContextTimeoutEnabled: true, ReadTimeout: 500 * time.Millisecond, WriteTimeout: 500 * time.Millisecond, DialTimeout: 500 * time.Millisecond,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// TestDoneIsRepeated loses the one call that removes a finished task. asynq's own
// repetition must succeed: otherwise the bundle runs again a minute later. The
// second case, without our client, shows the mistake that it makes good.
func TestDoneIsRepeated(t *testing.T) {
	t.Parallel()
	for _, mended := range []bool{true, false} {
		t.Run(map[bool]string{true: "mended", false: "asynq alone"}[mended], func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			var failures = countdown{n: 1}
			repeated := make(chan error, 10)
			flaky := f.sibling()
			flaky.AddHook(&faultHook{command: func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
				if !runsDone(cmd) {
					return next(ctx, cmd)
				}
				if failures.take() {
					cmd.SetErr(io.EOF)
					return io.EOF
				}
				err := next(ctx, cmd)
				if err == nil || !strings.HasPrefix(err.Error(), "NOSCRIPT") {
					repeated <- err
				}
				return err
			}})
			var runs atomic.Int32
			handler := func(_ context.Context, b *core.Bundle) error {
				runs.Add(1)
				f.settleAll(b.Mark)
				return nil
			}
			if mended {
				f.consume(handler, func(o *ConsumerOptions) { o.Client = flaky })
			} else {
				f.consumeUnmended(flaky, handler)
			}
			if errs := f.producer().Enqueue(t.Context(), fanOut(event("evt_1", 0), 1)); errs != nil {
				t.Fatal(errs)
			}
			err := receive(t, "repetition", repeated)
			d, _ := f.stats()
			if mended && (err != nil || d.Active != 0) {
				t.Errorf("repetition: %v, %d active; want success, 0", err, d.Active)
			}
			if !mended && (!errors.Is(err, context.Canceled) || d.Active != 1) {
				t.Errorf("repetition: %v, %d active; want %v, 1: is asynq mended?", err, d.Active, context.Canceled)
			}
			if runs.Load() != 1 {
				t.Errorf("the handler ran %d times", runs.Load())
			}
		})
	}
}

// consumeUnmended serves the deliver queue as a Consumer does, without the
// mended client.
func (f *fixture) consumeUnmended(client redis.UniversalClient, handler Handler) {
	f.t.Helper()
	c, err := NewConsumer(ConsumerOptions{Options: f.options(), Handler: handler})
	if err != nil {
		f.t.Fatal(err)
	}
	server := asynq.NewServerFromRedisClient(
		&doorbellClient{UniversalClient: client, bell: bellKey("deliver-00"), stopping: c.stopping},
		c.serverConfig("deliver-00", context.Background()),
	)
	if err := server.Start(c.handler("deliver-00")); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		close(c.stopping)
		server.Shutdown()
	})
}

func TestGate(t *testing.T) {
	t.Parallel()
	var g gate
	if !g.enter() {
		t.Fatal("an open gate is closed")
	}
	empty := g.close()
	if g.enter() {
		t.Error("a closed gate lets in")
	}
	select {
	case <-empty:
		t.Error("the gate is empty while somebody is inside")
	default:
	}
	g.leave()
	receive(t, "empty gate", empty)
}

func TestSubscribeGivesUpOnFrozenRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := &mendedClient{UniversalClient: impatient(t, server)}
	ps := client.Subscribe(t.Context(), "c")
	if m, err := ps.Receive(t.Context()); err != nil {
		t.Errorf("first message %v, %v; want the answer to a ping", m, err)
	}
	_ = ps.Close()
	server.Pause()
	defer server.Resume()
	ps = client.Subscribe(t.Context(), "c")
	if _, err := ps.Receive(t.Context()); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("Receive: %v; want %v", err, redis.ErrClosed)
	}
}
