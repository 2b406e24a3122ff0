package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// A sender that is killed leaves its tasks behind, running, under leases of 30 s
// which nobody extends any more. asynq waits for half a minute after their end,
// looks once a minute and puts the tasks off. The takeover looks every five
// seconds and lets them run at once, 28 to 38 s after the sender's death.
//
// Nothing is taken from an owner that lives. It extends its leases every five
// seconds, so they end only when it has not got through to Redis for 25 s. Then
// it learns from its own clock that they are over, and starts nothing more under
// them; what it had in flight may be delivered twice, as after its death. That
// leaves two dangers:
//
//   - Redis itself was away or frozen, or the whole machine slept. Afterwards all
//     leases are over although their owners live. The first of them to look must
//     not take what the others extend, or give up, at their next heartbeat: so
//     nobody takes anything before Redis has answered it for steadyFor.
//   - Clocks differ: the end of a lease is a time of its owner's clock and is
//     compared with that of Redis. leaseMargin is for that and for the fractions
//     that asynq cuts off; an owner's clock may be 25 s behind without harm, since
//     a lease that is alive has 20 s left at the least.
const (
	takeoverInterval = 5 * time.Second
	takeoverTimeout  = 2 * time.Second
	leaseMargin      = 3 * time.Second

	// steadyFor is how long Redis must have answered: two heartbeats.
	steadyFor = 10 * time.Second

	// maxSilence is the longest time between two answers that counts as steady. A
	// look that failed makes it longer.
	maxSilence = 8 * time.Second

	// maxRest is how long a queue is left alone in which no lease ends before: one
	// that is taken meanwhile lasts longer.
	maxRest = 20 * time.Second

	maxTakenOver = 1000 // tasks of a queue at a time
)

// lookout is what one who looks remembers. All times are of Redis's clock, as they
// came with its answers.
type lookout struct {
	since, last time.Time            // Redis has been answering
	next        map[string]time.Time // before which no lease of a queue can be over
}

// answered notes an answer and reports whether Redis has been steady.
func (s *lookout) answered(now time.Time) bool {
	if gap := now.Sub(s.last); s.last.IsZero() || gap < 0 || gap > maxSilence {
		s.since, s.next = now, nil
	}
	s.last = now
	return now.Sub(s.since) >= steadyFor
}

// takeOverCmd makes running tasks pending whose lease is over, the next to run,
// and rings for them. Their messages get the field retried = 1 appended: of a
// field that is there twice the last one counts (protobuf says so). A later run
// looks for the marks of the one that was cut off.
//
// KEYS[1] -> asynq:{<queue>}:lease
// KEYS[2] -> asynq:{<queue>}:active
// KEYS[3] -> asynq:{<queue>}:pending
// KEYS[4] -> the queue's bell
// --
// ARGV[1] -> prefix of the tasks' hashes
// ARGV[2] -> leases that ended by this Unix time are over. It is of the look, not of
// the script, which a Redis that froze meanwhile may run late
// ARGV[3] -> how many tasks to take
// ARGV[4] -> how many rings a bell keeps
//
// Output: the numbers of tasks taken over, and of ghosts removed
var takeOverCmd = redis.NewScript(`
local now = redis.call("TIME")
local taken, ghosts = 0, 0
for _, id in ipairs(redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", ARGV[2], "LIMIT", 0, ARGV[3])) do
	local key = ARGV[1] .. id
	redis.call("ZREM", KEYS[1], id)
	if redis.call("LREM", KEYS[2], 0, id) > 0 then
		local msg = redis.call("HGET", key, "msg")
		if msg then
			redis.call("HSET", key, "msg", msg .. "\48\1", "state", "pending",
				"pending_since", now[1] .. string.format("%06d000", now[2]))
			redis.call("RPUSH", KEYS[3], id)
			taken = taken + 1
			if taken <= tonumber(ARGV[4]) then redis.call("LPUSH", KEYS[4], "") end
		else
			redis.call("DEL", key)
			ghosts = ghosts + 1
		end
	end
end
if taken > 0 then redis.call("LTRIM", KEYS[4], 0, ARGV[4] - 1) end
return {taken, ghosts}`)

// takeOver looks every five seconds until ctx ends. Every consumer does.
func (c *Consumer) takeOver(ctx context.Context) {
	ticker := time.NewTicker(takeoverInterval)
	defer ticker.Stop()
	var look lookout
	for {
		if err := c.takeOverAll(ctx, &look); err != nil && ctx.Err() == nil {
			c.o.Logger.Warn("no look at leases that are over", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// takeOverAll takes over from all queues, once Redis is steady. A look asks for
// the time, and every twenty seconds, or when a lease may be over, for the lease
// of a queue that ends first.
func (c *Consumer) takeOverAll(ctx context.Context, look *lookout) error {
	ctx, cancel := context.WithTimeout(ctx, takeoverTimeout)
	defer cancel()
	pipe := c.o.Client.Pipeline()
	clock := pipe.Time(ctx)
	first := make(map[string]*redis.ZSliceCmd)
	for _, queue := range queueNames(c.o.Shards) {
		if !look.last.Before(look.next[queue].Add(-takeoverInterval)) {
			first[queue] = pipe.ZRangeWithScores(ctx, asynqKey(queue, leaseSuffix), 0, 0)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("read leases: %w", err)
	}
	now := clock.Val()
	steady := look.answered(now)
	for queue, lease := range first {
		if over := look.over(queue, lease.Val(), now); !over || !steady {
			continue
		}
		if err := c.takeOverQueue(ctx, queue, now); err != nil {
			return err
		}
	}
	return nil
}

// over reports whether a queue's first lease is over, and notes when one can be.
func (s *lookout) over(queue string, first []redis.Z, now time.Time) bool {
	if s.next == nil {
		s.next = make(map[string]time.Time)
	}
	next := now.Add(maxRest)
	if len(first) > 0 {
		if over := time.Unix(int64(first[0].Score), 0).Add(leaseMargin); over.Before(next) {
			next = over
		}
	}
	s.next[queue] = next
	return !next.After(now)
}

// takeOverQueue takes over from one queue what was over at now.
func (c *Consumer) takeOverQueue(ctx context.Context, queue string, now time.Time) error {
	keys := []string{asynqKey(queue, leaseSuffix), asynqKey(queue, activeSuffix), asynqKey(queue, pendingSuffix), bellKey(queue)}
	n, err := takeOverCmd.Run(ctx, c.o.Client, keys, taskKeyPrefix(queue), now.Add(-leaseMargin).Unix(), maxTakenOver, maxRings).Int64Slice()
	if err != nil {
		return fmt.Errorf("take over tasks of queue %s: %w", queue, err)
	}
	taken, ghosts := n[0], n[1]
	c.metrics.takenOver.Add(float64(taken))
	c.metrics.repairs[repairGhost].Add(float64(ghosts))
	if taken > 0 {
		c.o.Logger.Warn("bundles taken over: the sender that had them was killed, or could not reach Redis for half a minute",
			"queue", queue, "bundles", taken)
	}
	if ghosts > 0 {
		c.o.Logger.Error("running tasks without data removed: they are lost", "queue", queue, "without_data", ghosts)
	}
	return nil
}
