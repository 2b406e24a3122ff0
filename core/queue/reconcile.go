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

	// leaseOverdue is how long after its end a lease is recovered at the latest:
	// mostly by our takeover seconds after, but else by asynq every minute, half a
	// minute late, and a look that just missed it.
	leaseOverdue = 150 * time.Second
)

// reconcileCmd mends running tasks in two states that asynq never leaves. A task
// without lease is never recovered: its deliveries would be lost. A task whose
// data is gone (deleted or evicted behind our back) is taken by the next poll
// all the same and stays "running" for ever.
//
// It also counts the tasks whose lease ended long ago, which asynq recovers
// wherever a sender is alive.
//
// KEYS[1] -> asynq:{<queue>}:active
// KEYS[2] -> asynq:{<queue>}:lease
// --
// ARGV[1] -> prefix of the tasks' hashes
// ARGV[2] -> lease for those that have none, Unix time; 0: only look, mend nothing
// ARGV[3] -> how many tasks to look at
// ARGV[4] -> Unix time before which a lease ended long ago
//
// Output: the numbers of tasks without lease, of ghosts, and of overdue leases
var reconcileCmd = redis.NewScript(`
local leases, ghosts, overdue = 0, 0, 0
local mend = tonumber(ARGV[2]) > 0
for _, id in ipairs(redis.call("LRANGE", KEYS[1], -tonumber(ARGV[3]), -1)) do
	local key = ARGV[1] .. id
	if redis.call("HEXISTS", key, "msg") == 0 then
		if mend then
			redis.call("LREM", KEYS[1], 0, id)
			redis.call("ZREM", KEYS[2], id)
			redis.call("DEL", key)
		end
		ghosts = ghosts + 1
	else
		local lease = redis.call("ZSCORE", KEYS[2], id)
		if not lease then
			if mend then redis.call("ZADD", KEYS[2], ARGV[2], id) end
			leases = leases + 1
		elseif tonumber(lease) < tonumber(ARGV[4]) then
			overdue = overdue + 1
		end
	end
end
return {leases, ghosts, overdue}`)

// runningTasks counts the running tasks of a queue that are in trouble.
type runningTasks struct {
	withoutLease, withoutData, overdue int64
}

// checkRunning looks at the running tasks of a queue, and gives those without a
// lease the given one unless that is 0.
func checkRunning(ctx context.Context, o *Options, queue string, lease int64) (runningTasks, error) {
	keys := []string{asynqKey(queue, activeSuffix), asynqKey(queue, leaseSuffix)}
	overdue := o.Now().Add(-leaseOverdue).Unix()
	n, err := reconcileCmd.Run(ctx, o.Client, keys, taskKeyPrefix(queue), lease, maxReconciled, overdue).Int64Slice()
	if err != nil {
		return runningTasks{}, fmt.Errorf("check running tasks of queue %s: %w", queue, err)
	}
	return runningTasks{withoutLease: n[0], withoutData: n[1], overdue: n[2]}, nil
}

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
		found, err := checkRunning(ctx, &c.o.Options, queue, c.o.Now().Add(freshLease).Unix())
		if err != nil {
			return err
		}
		leases, ghosts := found.withoutLease, found.withoutData
		c.metrics.repairs[repairLease].Add(float64(leases))
		c.metrics.repairs[repairGhost].Add(float64(ghosts))
		if leases+ghosts > 0 {
			c.o.Logger.Error("running tasks mended: without lease they are recovered now, without data they are lost",
				"queue", queue, "without_lease", leases, "without_data", ghosts)
		}
	}
	return nil
}
