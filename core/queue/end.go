package queue

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// endScript ends a task as asynq's Done does, in the round trip of the last mark
// instead of one of its own. Without the whole mark, whose last part a Redis that is full
// refuses, it does nothing, and nothing when the task waits for its next run, which
// will find the mark. A successor that runs it already has nothing left to do, either.
//
// The mark of an ended task need not last as long as one whose end may still be to come:
// it only tells those who store the same bundle once more, which nobody does for longer
// than a minute, but for retries: these are stored again by whoever repeats the run that
// they came from.
//
// KEYS[1] -> asynq:{<queue>}:active
// KEYS[2] -> asynq:{<queue>}:lease
// KEYS[3] -> asynq:{<queue>}:t:<task>
// KEYS[4] -> asynq:{<queue>}:processed:<yyyy-mm-dd>, which asynq's own tools show
// KEYS[5] -> asynq:{<queue>}:processed
// KEYS[6] -> the bundle's bitmap
// --
// ARGV[1] -> task id
// ARGV[2] -> seconds that the day's count is kept
// ARGV[3] -> how many bits the whole bitmap has
// ARGV[4] -> milliseconds that the bitmap is kept from then on
//
// Output: 1 ended, 0 not
const endScript = `
if redis.call("BITCOUNT", KEYS[6]) < tonumber(ARGV[3]) or redis.call("LREM", KEYS[1], 0, ARGV[1]) == 0 then return 0 end
redis.call("ZREM", KEYS[2], ARGV[1])
redis.call("DEL", KEYS[3])
if redis.call("INCR", KEYS[4]) == 1 then redis.call("EXPIRE", KEYS[4], ARGV[2]) end
redis.call("INCR", KEYS[5])
redis.call("PEXPIRE", KEYS[6], ARGV[4])
return 1`

// countLifetime is how long asynq keeps a day's count.
const countLifetime = 90 * 24 * time.Hour

// endOf returns what ends the task with this mark.
func endOf(queue, id string, mark *core.Mark, now time.Time) core.Script {
	processed, kept := asynqKey(queue, processedSuffix), min(mark.TTL, inlineMarkTTL)
	if queue == retryQueue {
		kept = mark.TTL
	}
	return core.Script{
		Source: endScript,
		Keys: []string{
			asynqKey(queue, activeSuffix), asynqKey(queue, leaseSuffix), taskKeyPrefix(queue) + id,
			processed + ":" + now.UTC().Format(time.DateOnly), processed, mark.DoneKey,
		},
		Args: []any{id, int(countLifetime.Seconds()), mark.Size, kept.Milliseconds()},
	}
}

// ended remembers the tasks that their handlers have ended, until asynq has let go
// of them: as many as are running at most.
type ended struct{ ids sync.Map }

// add remembers a task until ctx, which asynq made for it, ends.
func (e *ended) add(ctx context.Context, id string) {
	e.ids.Store(id, nil)
	context.AfterFunc(ctx, func() { e.ids.Delete(id) })
}

// is reports whether a script is asynq's Done of such a task.
func (e *ended) is(keys []string, args []any) bool {
	if len(keys) != 5 || len(args) == 0 || !strings.HasSuffix(keys[0], activeSuffix) || !strings.HasSuffix(keys[4], processedSuffix) {
		return false
	}
	id, _ := args[0].(string)
	_, ok := e.ids.Load(id)
	return ok
}

// endedClient is the Redis client of an asynq server. It spares the call that ends
// a task which its handler has ended.
type endedClient struct {
	redis.UniversalClient
	ended *ended
}

// EvalSha runs a script by its digest.
func (c *endedClient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if c.ended.is(keys, args) {
		return redis.NewCmdResult("OK", nil)
	}
	return c.UniversalClient.EvalSha(ctx, sha, keys, args...)
}
