package queue

import (
	"fmt"
	"strconv"

	"github.com/sealpost/sealpost/core"
)

// retryQueue holds the tasks that wait for their time: retries, and bundles
// deferred to a later moment.
const retryQueue = "retry-00"

// bulkQueue holds the bundles of organizations that are above their share, so
// that those of others never stand behind them.
const bulkQueue = "bulk-00"

// deliverQueue returns the name of a shard's queue. All keys of a queue carry
// its name in braces and so live in one slot of a Redis Cluster.
func deliverQueue(shard int) string { return fmt.Sprintf("deliver-%02d", shard) }

// queueNames lists every queue: the shards in order, then the retry queue and
// the bulk queue.
func queueNames(shards int) []string {
	names := make([]string, 0, shards+2)
	for i := range shards {
		names = append(names, deliverQueue(i))
	}
	return append(names, retryQueue, bulkQueue)
}

// retryID names the task of a delivery's next attempt.
func retryID(d *core.Delivery) string { return d.ID + ":" + strconv.Itoa(d.Attempts) }

// The keys of a bundle, and the list in which a queue's producers ring.
func blobKey(queue, bundle string) string { return "sp:{" + queue + "}:bundle:" + bundle }
func doneKey(queue, bundle string) string { return blobKey(queue, bundle) + ":done" }
func bellKey(queue string) string         { return "sp:{" + queue + "}:bell" }

// Suffixes by which asynq's scripts are told apart; asynq names its keys
// "asynq:{<queue>}:<suffix>".
const (
	pendingSuffix   = ":pending"
	pausedSuffix    = ":paused"
	activeSuffix    = ":active"
	leaseSuffix     = ":lease"
	processedSuffix = ":processed"
	scheduledSuffix = ":scheduled"
	retrySuffix     = ":retry"
)

// asynqKey returns the name of one of asynq's keys of a queue.
func asynqKey(queue, suffix string) string { return "asynq:{" + queue + "}" + suffix }

// taskKeyPrefix returns what the hash of each task of a queue begins with.
func taskKeyPrefix(queue string) string { return asynqKey(queue, ":t:") }
