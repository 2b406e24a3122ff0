package queue

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// faultHook spoils what a client does. Its functions may be nil.
type faultHook struct {
	// pipeline is for pipelines with a script. It runs next itself; it may
	// change cmds or their errors.
	pipeline func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error
	// command runs next itself.
	command func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error
}

func (h *faultHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *faultHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.command == nil {
			return next(ctx, cmd)
		}
		return h.command(ctx, cmd, next)
	}
}

func (h *faultHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if h.pipeline == nil || !runsScript(cmds) {
			return next(ctx, cmds)
		}
		return h.pipeline(ctx, cmds, next)
	}
}

func runsScript(cmds []redis.Cmder) bool {
	return slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == "evalsha" || cmd.Name() == "eval" })
}

// failAll gives every command of a pipeline an error.
func failAll(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return err
}

// redisError is an error as Redis answers it.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// countdown is true for the first n calls.
type countdown struct {
	mu sync.Mutex
	n  int
}

func (c *countdown) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	return c.n >= 0
}

func (c *countdown) give() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

// runsDone reports whether cmd is the script that removes a task that is done.
func runsDone(cmd redis.Cmder) bool {
	args := cmd.Args()
	if name := strings.ToLower(cmd.Name()); name != "evalsha" && name != "eval" || len(args) != 3+5+3 {
		return false
	}
	key, _ := args[3].(string)
	total, _ := args[7].(string)
	return strings.HasSuffix(key, activeSuffix) && strings.HasSuffix(total, ":processed")
}
