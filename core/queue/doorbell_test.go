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
	answer func(call int) (any, error) // calls count from 1
	calls  int
}

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
		c := &doorbellClient{UniversalClient: inner, bell: newDoorbell()}
		c.EvalSha(t.Context(), "sha", forwardKeys)
		if got := len(c.bell.rung) == 1; got != (moved > 0) {
			t.Errorf("%d tasks moved: rings %t", moved, got)
		}
	}
}
