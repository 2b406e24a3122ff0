package queue

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// scriptedClient answers scripts with a function.
type scriptedClient struct {
	redis.UniversalClient
	answer    func(call int) (any, error) // calls count from 1
	calls     int
	asked     int   // calls of LLen
	length    int64 // its answer
	lengthErr error
	left      int64 // length of the list behind a poll
	travelled int   // waits with a poll behind them

	bell    chan struct{} // rings
	bellErr error
	rings   int // that the client itself made

	nothingDue bool
	dueErr     error
}

func (c *scriptedClient) ZCount(context.Context, string, string, string) *redis.IntCmd {
	if c.nothingDue || c.dueErr != nil {
		return redis.NewIntResult(0, c.dueErr)
	}
	return redis.NewIntResult(1, nil)
}

func newScripted(answer func(call int) (any, error)) *scriptedClient {
	return &scriptedClient{answer: answer, bell: make(chan struct{}, maxRings)}
}

func (c *scriptedClient) ring() { c.bell <- struct{}{} }

func (c *scriptedClient) BLPop(_ context.Context, timeout time.Duration, keys ...string) *redis.StringSliceCmd {
	select {
	case <-c.bell:
		return redis.NewStringSliceResult([]string{keys[0], ""}, nil)
	case <-time.After(timeout):
		return redis.NewStringSliceResult(nil, cmp.Or[error](c.bellErr, redis.Nil))
	}
}

func (c *scriptedClient) LLen(context.Context, string) *redis.IntCmd {
	c.asked++
	return redis.NewIntResult(c.length, c.lengthErr)
}

// Pipeline returns a pipeline whose commands have run as soon as they are given.
func (c *scriptedClient) Pipeline() redis.Pipeliner { return &scriptedPipeline{client: c} }

type scriptedPipeline struct {
	redis.Pipeliner
	client *scriptedClient
}

func (p *scriptedPipeline) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return p.client.EvalSha(ctx, sha, keys, args...)
}

func (p *scriptedPipeline) BLPop(ctx context.Context, timeout time.Duration, keys ...string) *redis.StringSliceCmd {
	p.client.travelled++
	return p.client.BLPop(ctx, timeout, keys...)
}

func (p *scriptedPipeline) LLen(context.Context, string) *redis.IntCmd {
	return redis.NewIntResult(p.client.left, nil)
}

func (p *scriptedPipeline) LPush(_ context.Context, _ string, rings ...any) *redis.IntCmd {
	p.client.rings += len(rings)
	for range rings {
		p.client.ring()
	}
	return redis.NewIntResult(0, nil)
}

func (p *scriptedPipeline) LTrim(context.Context, string, int64, int64) *redis.StatusCmd { return nil }

func (p *scriptedPipeline) Exec(context.Context) ([]redis.Cmder, error) { return nil, nil }

func (c *scriptedClient) Eval(ctx context.Context, _ string, keys []string, args ...any) *redis.Cmd {
	return c.EvalSha(ctx, "", keys, args...)
}

func (c *scriptedClient) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	c.calls++
	v, err := c.answer(c.calls)
	return redis.NewCmdResult(v, err)
}

var (
	dequeueKeys = []string{"asynq:{q}:pending", "asynq:{q}:paused", "asynq:{q}:active", "asynq:{q}:lease"}
	requeueKeys = []string{"asynq:{q}:active", "asynq:{q}:lease", "asynq:{q}:pending", "asynq:{q}:t:1"}
	forwardKeys = []string{"asynq:{q}:scheduled", "asynq:{q}:pending"}
	doneKeys    = []string{"asynq:{q}:active", "asynq:{q}:lease", "asynq:{q}:t:1", "asynq:{q}:processed:x", "asynq:{q}:processed"}
)

// reply is what Redis answers to a poll.
type reply struct {
	value any
	err   error
}

func TestDoorbellHoldsEmptyPolls(t *testing.T) {
	t.Parallel()
	empty := []reply{{nil, redis.Nil}}
	thenTask := []reply{{nil, redis.Nil}, {"message", nil}}
	errDown := errors.New("connection refused")
	refused := []reply{{nil, errDown}}
	tests := []struct {
		name    string
		keys    []string
		replies []reply         // of Redis; the last one again and again
		before  int             // rings before the first poll
		rings   []time.Duration // after the beginning
		bellErr error
		want    time.Duration // until the answer
		calls   int
		err     error // nil: the last reply's
	}{
		{name: "nobody rings", keys: dequeueKeys, replies: empty, want: maxHold, calls: 1},
		{name: "a ring brings a task", keys: dequeueKeys, replies: thenTask, rings: []time.Duration{300 * time.Millisecond}, want: 300 * time.Millisecond, calls: 2},
		{name: "others are faster", keys: dequeueKeys, replies: empty, rings: []time.Duration{300 * time.Millisecond, 400 * time.Millisecond}, want: maxHold + 400*time.Millisecond, calls: 4},
		{name: "rings do not hold a poll for ever", keys: dequeueKeys, replies: empty, rings: []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}, want: 2 * time.Second, calls: 3},
		{name: "a ring before the poll is kept", keys: dequeueKeys, replies: thenTask, before: 1, calls: 2},
		{name: "a task is given at once", keys: dequeueKeys, replies: thenTask[1:], calls: 1},
		{name: "a missing script is reported at once", keys: dequeueKeys, replies: []reply{{nil, redis.ErrNoScript}}, calls: 1},
		{name: "errors are paced", keys: dequeueKeys, replies: refused, want: errorPause, calls: 1},
		{name: "a bell does not speed up errors", keys: dequeueKeys, replies: refused, before: 1, want: errorPause, calls: 1},
		{name: "a bell that fails", keys: dequeueKeys, replies: empty, bellErr: errDown, want: maxHold + errorPause, calls: 1, err: errDown},
		{name: "other scripts pass", keys: doneKeys, replies: empty, calls: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				inner := newScripted(func(call int) (any, error) {
					r := tt.replies[min(call, len(tt.replies))-1]
					return r.value, r.err
				})
				inner.bellErr = tt.bellErr
				c := &doorbellClient{UniversalClient: inner, stopping: make(chan struct{})}
				for range tt.before {
					inner.ring()
				}
				for _, after := range tt.rings {
					time.AfterFunc(after, inner.ring)
				}
				start := time.Now()
				cmd := c.EvalSha(t.Context(), "sha", tt.keys)
				if took := time.Since(start); took != tt.want {
					t.Errorf("took %v; want %v", took, tt.want)
				}
				last := tt.replies[min(tt.calls, len(tt.replies))-1]
				if err := cmp.Or(tt.err, last.err); !errors.Is(cmd.Err(), err) || cmd.Val() != last.value {
					t.Errorf("answer %v, %v; want %v, %v", cmd.Val(), cmd.Err(), last.value, err)
				}
				if inner.calls != tt.calls {
					t.Errorf("%d calls; want %d", inner.calls, tt.calls)
				}
				time.Sleep(time.Minute) // what rings late
			})
		})
	}
}

func TestDoorbellStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		inner := newScripted(func(int) (any, error) { return nil, redis.Nil })
		c := &doorbellClient{UniversalClient: inner, stopping: stopping}
		start := time.Now()
		time.AfterFunc(100*time.Millisecond, func() { close(stopping); inner.ring() })
		if err := c.EvalSha(t.Context(), "sha", dequeueKeys).Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("held poll: %v", err)
		}
		if err := c.EvalSha(t.Context(), "sha", dequeueKeys).Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("poll after the stop: %v", err)
		}
		if took := time.Since(start); took != 100*time.Millisecond || inner.calls != 1 {
			t.Errorf("took %v and %d calls; want 100ms and no call after the stop", took, inner.calls)
		}
	})
}

// Whoever brings tasks to a queue other than by a producer rings for them.
func TestDoorbellRingsForOthers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		keys  []string
		reply any
		rings int
	}{
		{name: "nothing was due", keys: forwardKeys, reply: int64(0)},
		{name: "three tasks were due", keys: forwardKeys, reply: int64(3), rings: 3},
		{name: "many tasks were due", keys: forwardKeys, reply: int64(100), rings: maxRings},
		{name: "a task was put back at a shutdown", keys: requeueKeys, reply: "OK", rings: 1},
		{name: "a task is done", keys: doneKeys, reply: "OK"},
	} {
		inner := newScripted(func(int) (any, error) { return tt.reply, nil })
		c := &doorbellClient{UniversalClient: inner, delays: true}
		c.EvalSha(t.Context(), "sha", tt.keys)
		if inner.rings != tt.rings {
			t.Errorf("%s: %d rings; want %d", tt.name, inner.rings, tt.rings)
		}
	}
}

// An idle queue is asked for its length instead of polled, until a bell rings,
// it has a length, or asking fails.
func TestIdleQueueIsAskedForItsLength(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		length int64
		err    error
		rings  bool
		polls  int // in addition to the one that finds the queue empty
	}{
		{name: "empty", polls: 0},
		{name: "a bell rang", rings: true, polls: 2}, // and one travelled along with the next wait
		{name: "a lost bell", length: 1, polls: 1},
		{name: "an error", err: errors.New("connection refused"), polls: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				inner := newScripted(func(int) (any, error) { return nil, redis.Nil })
				inner.length, inner.lengthErr = tt.length, tt.err
				c := &doorbellClient{UniversalClient: inner, stopping: make(chan struct{})}
				c.EvalSha(t.Context(), "sha", dequeueKeys)
				if tt.rings {
					inner.ring()
				}
				c.EvalSha(t.Context(), "sha", dequeueKeys)
				if got := inner.calls - 1; got != tt.polls {
					t.Errorf("%d further polls; want %d", got, tt.polls)
				}
			})
		})
	}
}

// A poll that takes the last task saves the one after it.
func TestLastTaskNeedsNoFurtherPoll(t *testing.T) {
	t.Parallel()
	for _, left := range []int64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			inner := newScripted(func(int) (any, error) { return "message", nil })
			inner.left = left
			c := &doorbellClient{UniversalClient: inner, stopping: make(chan struct{})}
			c.EvalSha(t.Context(), "sha", dequeueKeys)
			start := time.Now()
			err := c.EvalSha(t.Context(), "sha", dequeueKeys).Err()
			if held := time.Since(start) == maxHold; held != (left == 0) || errors.Is(err, redis.Nil) != (left == 0) {
				t.Errorf("%d left behind the first task: held %t, %v", left, held, err)
			}
			if want := int(1 + left); inner.calls != want || inner.asked != 0 {
				t.Errorf("%d left: %d polls, asked for the length %d times; want %d and never", left, inner.calls, inner.asked, want)
			}
			if left == 0 { // a bell may have been lost meanwhile
				inner.length = 1
				if err := c.EvalSha(t.Context(), "sha", dequeueKeys).Err(); err != nil || inner.asked != 1 {
					t.Errorf("after the hold: %v, asked %d times; want the task", err, inner.asked)
				}
			}
		})
	}
}

// Once the bell has rung, polls travel along with waits: each ring is one round
// trip, until a wait ends without a ring.
func TestPollTravelsWithTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := newScripted(func(call int) (any, error) {
			if call == 1 || call > 4 {
				return nil, redis.Nil
			}
			return "message", nil
		})
		c := &doorbellClient{UniversalClient: inner, stopping: make(chan struct{})}
		for i, want := range []struct{ polls, travelled int }{
			{2, 0}, // finds nothing, waits, and polls when the bell has rung
			{3, 1},
			{4, 2},
		} {
			time.AfterFunc(100*time.Millisecond, inner.ring)
			start := time.Now()
			cmd := c.EvalSha(t.Context(), "sha", dequeueKeys)
			if cmd.Err() != nil || time.Since(start) != 100*time.Millisecond {
				t.Fatalf("task %d: %v after %v", i, cmd.Err(), time.Since(start))
			}
			if inner.calls != want.polls || inner.travelled != want.travelled {
				t.Errorf("task %d: %d polls, %d travelled along; want %+v", i, inner.calls, inner.travelled, want)
			}
		}
		for range 3 { // nobody rings: the last poll travels, then the length is asked for
			if err := c.EvalSha(t.Context(), "sha", dequeueKeys).Err(); !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
		}
		if inner.calls != 5 || inner.travelled != 3 || inner.asked != 2 {
			t.Errorf("%d polls, %d travelled along, asked for the length %d times; want 5, 3, 2", inner.calls, inner.travelled, inner.asked)
		}
	})
}

// A task that a poll took along with a wait is given, whatever became of the wait.
func TestPollAfterAWaitThatEnded(t *testing.T) {
	t.Parallel()
	for _, bellErr := range []error{nil, redis.ErrNoScript, errors.New("connection refused")} {
		synctest.Test(t, func(t *testing.T) {
			inner := newScripted(func(int) (any, error) { return "message", nil })
			c := &doorbellClient{UniversalClient: inner, stopping: make(chan struct{}), rang: true, seen: seenEmpty}
			inner.bellErr = bellErr
			cmd := c.EvalSha(t.Context(), "sha", dequeueKeys)
			if cmd.Err() != nil || cmd.Val() != "message" {
				t.Errorf("the wait ended with %v: %v, %v; want the task", bellErr, cmd.Val(), cmd.Err())
			}
		})
	}
}

// Scripts that forward run where something is due, or where that cannot be told.
func TestNothingDueIsNotForwarded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		nothingDue bool
		err        error
		calls      int
	}{
		{name: "something", calls: 1},
		{name: "nothing", nothingDue: true},
		{name: "an error", err: errors.New("connection refused"), calls: 1},
	} {
		inner := newScripted(func(int) (any, error) { return int64(0), nil })
		inner.nothingDue, inner.dueErr = tt.nothingDue, tt.err
		c := &doorbellClient{UniversalClient: inner, delays: true}
		if n, err := c.EvalSha(t.Context(), "sha", forwardKeys).Int(); n != 0 || err != nil || inner.calls != tt.calls {
			t.Errorf("%s: %d, %v, %d calls; want %d", tt.name, n, err, inner.calls, tt.calls)
		}
	}
}

// asynq moves a hundred tasks at a time and asks again until none is due: the
// interval must not cut that short.
func TestManyPutBackTasksAreForwardedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		due := int64(350)
		inner := newScripted(nil)
		inner.answer = func(int) (any, error) {
			n := min(due, 100)
			due -= n
			for len(inner.bell) > 0 {
				<-inner.bell // Redis keeps no more than maxRings
			}
			return n, nil
		}
		c := &doorbellClient{UniversalClient: inner}
		for n := 1; n != 0; {
			n, _ = c.EvalSha(t.Context(), "sha", []string{"asynq:{q}:retry", "asynq:{q}:pending"}).Int()
		}
		if due != 0 {
			t.Errorf("%d tasks are still waiting", due)
		}
	})
}

// Tasks are scheduled on the retry queue alone, and handlers rarely fail; where one
// has, it is looked for more often for a while.
func TestForwardingIsSpared(t *testing.T) {
	t.Parallel()
	scheduled := []string{"asynq:{q}:scheduled", "asynq:{q}:pending"}
	putBack := []string{"asynq:{q}:retry", "asynq:{q}:pending"}
	failed := []string{"asynq:{q}:t:1", "asynq:{q}:active", "asynq:{q}:lease", "asynq:{q}:retry", "asynq:{q}:processed"}
	for _, delays := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			calls := make(map[string]int)
			inner := newScripted(func(int) (any, error) { return int64(0), nil })
			c := &doorbellClient{UniversalClient: inner, delays: delays}
			for tick := range 300 { // 150 seconds of asynq's forwarder on the retry queue
				if tick == 81 { // a handler fails, half a second after a look
					c.EvalSha(t.Context(), "sha", failed)
				}
				for _, keys := range [][]string{scheduled, putBack} {
					before := inner.calls
					if n, err := c.EvalSha(t.Context(), "sha", keys).Int(); n != 0 || err != nil {
						t.Errorf("forward: %d, %v", n, err)
					}
					calls[keys[0]] += inner.calls - before
				}
				time.Sleep(500 * time.Millisecond)
			}
			want := map[bool]int{false: 0, true: 300}[delays]
			// At 0, 20 and 40 s; at 40.5 and every 5 s up to 100.5, of which the last
			// makes the next one come 20 s later, and so at 140.5.
			if calls[scheduled[0]] != want || calls[putBack[0]] != 3+13+2 {
				t.Errorf("delays %t: %v calls; want %d for what is scheduled, %d for what was put back", delays, calls, want, 3+13+2)
			}
		})
	}
}

// A Redis that does not know the script yet is given its text, which must reach
// it although the script ran a moment ago.
func TestUnknownForwardScriptIsGiven(t *testing.T) {
	t.Parallel()
	inner := newScripted(func(int) (any, error) { return int64(1), nil })
	c := &doorbellClient{UniversalClient: inner}
	keys := []string{"asynq:{q}:retry", "asynq:{q}:pending"}
	for i, call := range []func() *redis.Cmd{
		func() *redis.Cmd { return c.EvalSha(t.Context(), "sha", keys) },
		func() *redis.Cmd { return c.Eval(t.Context(), "script", keys) },
	} {
		if n, err := call().Int(); n != 1 || err != nil || inner.calls != i+1 {
			t.Errorf("call %d: %d, %v, %d calls; want it to run", i+1, n, err, inner.calls)
		}
	}
}

// The bulk queue's empty polls are held back for longer.
func TestCalmHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &doorbellClient{UniversalClient: newScripted(func(int) (any, error) { return nil, redis.Nil }), calm: true, stopping: make(chan struct{})}
		start := time.Now()
		if err := c.EvalSha(t.Context(), "sha", dequeueKeys).Err(); !errors.Is(err, redis.Nil) || time.Since(start) != calmHold {
			t.Errorf("%v after %v; want %v after %v", err, time.Since(start), redis.Nil, calmHold)
		}
	})
}
