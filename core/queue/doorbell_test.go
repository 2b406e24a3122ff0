package queue

import (
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

func (p *scriptedPipeline) LLen(context.Context, string) *redis.IntCmd {
	return redis.NewIntResult(p.client.left, nil)
}

func (p *scriptedPipeline) Exec(context.Context) ([]redis.Cmder, error) { return nil, nil }

func (c *scriptedClient) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	c.calls++
	v, err := c.answer(c.calls)
	return redis.NewCmdResult(v, err)
}

var (
	dequeueKeys = []string{"asynq:{q}:pending", "asynq:{q}:paused", "asynq:{q}:active", "asynq:{q}:lease"}
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
	refused := []reply{{nil, errors.New("connection refused")}}
	tests := []struct {
		name    string
		keys    []string
		replies []reply               // of Redis; the last one again and again
		before  func(*doorbellClient) // the first poll
		during  func(*doorbellClient) // the first poll
		rings   []time.Duration       // after the beginning
		want    time.Duration         // until the answer
		calls   int
	}{
		{name: "nobody rings", keys: dequeueKeys, replies: empty, want: maxHold, calls: 1},
		{name: "a ring brings a task", keys: dequeueKeys, replies: thenTask, rings: []time.Duration{300 * time.Millisecond}, want: 300 * time.Millisecond, calls: 2},
		{name: "others are faster", keys: dequeueKeys, replies: empty, rings: []time.Duration{300 * time.Millisecond, 400 * time.Millisecond}, want: maxHold, calls: 3},
		{name: "a ring before the poll is for a task that the poll sees", keys: dequeueKeys, replies: empty, before: func(c *doorbellClient) { c.bell.ring(); c.bell.ring() }, want: maxHold, calls: 1},
		{name: "a ring during the poll is kept", keys: dequeueKeys, replies: thenTask, during: func(c *doorbellClient) { c.bell.ring() }, calls: 2},
		{name: "a task is given at once", keys: dequeueKeys, replies: thenTask[1:], calls: 1},
		{name: "a missing script is reported at once", keys: dequeueKeys, replies: []reply{{nil, redis.ErrNoScript}}, calls: 1},
		{name: "errors are paced", keys: dequeueKeys, replies: refused, want: errorPause, calls: 1},
		{name: "a bell does not speed up errors", keys: dequeueKeys, replies: refused, during: func(c *doorbellClient) { c.bell.ring() }, want: errorPause, calls: 1},
		{name: "other scripts pass", keys: doneKeys, replies: empty, calls: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				inner := &scriptedClient{}
				c := &doorbellClient{UniversalClient: inner, bell: newDoorbell(), stopping: make(chan struct{})}
				inner.answer = func(call int) (any, error) {
					if tt.during != nil && call == 1 {
						tt.during(c)
					}
					r := tt.replies[min(call, len(tt.replies))-1]
					return r.value, r.err
				}
				if tt.before != nil {
					tt.before(c)
				}
				for _, after := range tt.rings {
					time.AfterFunc(after, c.bell.ring)
				}
				start := time.Now()
				cmd := c.EvalSha(t.Context(), "sha", tt.keys)
				if took := time.Since(start); took != tt.want {
					t.Errorf("took %v; want %v", took, tt.want)
				}
				last := tt.replies[min(tt.calls, len(tt.replies))-1]
				if !errors.Is(cmd.Err(), last.err) || cmd.Val() != last.value {
					t.Errorf("answer %v, %v; want %v, %v", cmd.Val(), cmd.Err(), last.value, last.err)
				}
				if inner.calls != tt.calls {
					t.Errorf("%d calls; want %d", inner.calls, tt.calls)
				}
			})
		})
	}
}

func TestDoorbellStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		inner := &scriptedClient{answer: func(int) (any, error) { return nil, redis.Nil }}
		c := &doorbellClient{UniversalClient: inner, bell: newDoorbell(), stopping: stopping}
		start := time.Now()
		time.AfterFunc(100*time.Millisecond, func() { close(stopping) })
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

func TestDoorbellRingsForForwardedTasks(t *testing.T) {
	t.Parallel()
	for _, moved := range []int64{0, 3} {
		inner := &scriptedClient{answer: func(int) (any, error) { return moved, nil }}
		c := &doorbellClient{UniversalClient: inner, bell: newDoorbell(), delays: true}
		c.EvalSha(t.Context(), "sha", forwardKeys)
		if got := len(c.bell.rung) == 1; got != (moved > 0) {
			t.Errorf("%d tasks moved: rings %t", moved, got)
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
		{name: "a bell rang", rings: true, polls: 1},
		{name: "a lost bell", length: 1, polls: 1},
		{name: "an error", err: errors.New("connection refused"), polls: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				inner := &scriptedClient{answer: func(int) (any, error) { return nil, redis.Nil }, length: tt.length, lengthErr: tt.err}
				c := &doorbellClient{UniversalClient: inner, bell: newDoorbell(), stopping: make(chan struct{})}
				c.EvalSha(t.Context(), "sha", dequeueKeys)
				if tt.rings {
					c.bell.ring()
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
			inner := &scriptedClient{answer: func(int) (any, error) { return "message", nil }, left: left}
			c := &doorbellClient{UniversalClient: inner, bell: newDoorbell(), stopping: make(chan struct{})}
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

// asynq moves a hundred tasks at a time and asks again until none is due: the
// interval must not cut that short.
func TestManyPutBackTasksAreForwardedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		due := int64(350)
		inner := &scriptedClient{answer: func(int) (any, error) {
			n := min(due, 100)
			due -= n
			return n, nil
		}}
		c := &doorbellClient{UniversalClient: inner, bell: newDoorbell()}
		for n := 1; n != 0; {
			n, _ = c.EvalSha(t.Context(), "sha", []string{"asynq:{q}:retry", "asynq:{q}:pending"}).Int()
		}
		if due != 0 {
			t.Errorf("%d tasks are still waiting", due)
		}
	})
}

// Tasks are scheduled on the retry queue alone, and handlers rarely fail.
func TestForwardingIsSpared(t *testing.T) {
	t.Parallel()
	scheduled := []string{"asynq:{q}:scheduled", "asynq:{q}:pending"}
	putBack := []string{"asynq:{q}:retry", "asynq:{q}:pending"}
	for _, delays := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			calls := make(map[string]int)
			inner := &scriptedClient{answer: func(int) (any, error) { return int64(0), nil }}
			c := &doorbellClient{UniversalClient: inner, bell: newDoorbell(), delays: delays}
			for range 20 { // ten seconds of asynq's forwarder on the retry queue
				for _, keys := range [][]string{scheduled, putBack} {
					before := inner.calls
					if n, err := c.EvalSha(t.Context(), "sha", keys).Int(); n != 0 || err != nil {
						t.Errorf("forward: %d, %v", n, err)
					}
					calls[keys[0]] += inner.calls - before
				}
				time.Sleep(500 * time.Millisecond)
			}
			want := map[bool]int{false: 0, true: 20}[delays]
			if calls[scheduled[0]] != want || calls[putBack[0]] != 2 {
				t.Errorf("delays %t: %v calls; want %d for what is scheduled, 2 for what was put back", delays, calls, want)
			}
		})
	}
}
