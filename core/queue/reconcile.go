package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	reconcileInterval = time.Minute
	reconcileTimeout  = 5 * time.Second
	maxReconciled     = 1000 // running tasks of a queue that are looked at, oldest first

	// freshLease is how long asynq leaves a task alone whose lease was missing.
	// Nobody is known to run it, but nothing is known to the contrary either.
	freshLease = 30 * time.Second
)

// reconcileCmd mends running tasks in two states that asynq never leaves. A task
// without lease is never recovered: its deliveries would be lost. A task whose
// data is gone (deleted or evicted behind our back) is taken by the next poll
// all the same and stays "running" for ever.
//
// KEYS[1] -> asynq:{<queue>}:active
// KEYS[2] -> asynq:{<queue>}:lease
// --
// ARGV[1] -> prefix of the tasks' hashes
// ARGV[2] -> lease for those that have none, Unix time
// ARGV[3] -> how many tasks to look at
//
// Output: the numbers of leases given and of ghosts removed
var reconcileCmd = redis.NewScript(`
local leases, ghosts = 0, 0
for _, id in ipairs(redis.call("LRANGE", KEYS[1], -tonumber(ARGV[3]), -1)) do
	local key = ARGV[1] .. id
	if redis.call("HEXISTS", key, "msg") == 0 then
		redis.call("LREM", KEYS[1], 0, id)
		redis.call("ZREM", KEYS[2], id)
		redis.call("DEL", key)
		ghosts = ghosts + 1
	elseif not redis.call("ZSCORE", KEYS[2], id) then
		redis.call("ZADD", KEYS[2], ARGV[2], id)
		leases = leases + 1
	end
end
return {leases, ghosts}`)

// reconcile mends the queues every minute until ctx ends. Every consumer does.
func (c *Consumer) reconcile(ctx context.Context) {
	ticker := time.NewTicker(reconcileInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := c.reconcileAll(ctx); err != nil && ctx.Err() == nil {
			c.o.Logger.Warn("running tasks could not be checked", "error", err)
		}
	}
}

func (c *Consumer) reconcileAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	for _, queue := range queueNames(c.o.Shards) {
		keys := []string{asynqKey(queue, activeSuffix), asynqKey(queue, ":lease")}
		lease := c.o.Now().Add(freshLease).Unix()
		n, err := reconcileCmd.Run(ctx, c.o.Client, keys, taskKeyPrefix(queue), lease, maxReconciled).Int64Slice()
		if err != nil {
			return fmt.Errorf("reconcile queue %s: %w", queue, err)
		}
		leases, ghosts := n[0], n[1]
		c.metrics.repairs[repairLease].Add(float64(leases))
		c.metrics.repairs[repairGhost].Add(float64(ghosts))
		if leases+ghosts > 0 {
			c.o.Logger.Error("running tasks mended: without lease they are recovered now, without data they are lost",
				"queue", queue, "without_lease", leases, "without_data", ghosts)
		}
	}
	return nil
}
