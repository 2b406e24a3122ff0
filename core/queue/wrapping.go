package queue

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// wrapping makes of asynq's scripts, which are known by their digests, scripts of our
// own that contain them. asynq shows a script when Redis does not know its digest, so a
// digest that is not known here is answered as Redis would.
type wrapping struct {
	wrap    func(text string) string
	scripts sync.Map // digest of asynq's script → *redis.Script; asynq has two that store a task
}

// evalSha adds the script to r that contains the one which asynq knows by a digest.
func (w *wrapping) evalSha(ctx context.Context, r redis.Scripter, sha string, keys []string, args []any) *redis.Cmd {
	script, _ := w.scripts.Load(sha)
	return script.(*redis.Script).EvalSha(ctx, r, keys, args...)
}

// knows reports whether asynq has shown the script with this digest.
func (w *wrapping) knows(sha string) bool {
	_, ok := w.scripts.Load(sha)
	return ok
}

// eval adds the script to r that contains one which asynq shows.
func (w *wrapping) eval(ctx context.Context, r redis.Scripter, text string, keys []string, args []any) *redis.Cmd {
	script, _ := w.scripts.LoadOrStore(redis.NewScript(text).Hash(), redis.NewScript(w.wrap(text)))
	return script.(*redis.Script).Eval(ctx, r, keys, args...)
}

// unknownScript is Redis's answer to a digest that it does not know.
type unknownScript struct{}

func (unknownScript) Error() string { return "NOSCRIPT No matching script." }
func (unknownScript) RedisError()   {}
