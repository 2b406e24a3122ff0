package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// QueueStats is what stands in a queue.
type QueueStats struct {
	Queue         string
	Pending       int64         // tasks that can run
	Active        int64         // that run
	Scheduled     int64         // that wait for their time
	Retry         int64         // that were put back and wait some seconds
	Archived      int64         // that asynq gave up: must be 0
	OldestPending time.Duration // how long the oldest pending task has been waiting; 0: none
	Overdue       time.Duration // how long a task whose time has come has been waiting to be pending; 0: none
	LeaseExpired  time.Duration // how long a running task has been without a lease; 0: none
}

// overview is what stands in the queues, and who works on them.
type overview struct {
	queues     []QueueStats
	consumers  int64         // with a fresh heartbeat; each sender runs one for each queue
	clockAhead time.Duration // this machine's clock minus that of Redis
}

// states lists the states of a queue's tasks, as they are named in the metric.
func (s *QueueStats) states() [5]struct {
	name  string
	tasks int64
} {
	return [5]struct {
		name  string
		tasks int64
	}{
		{"pending", s.Pending}, {"active", s.Active}, {"scheduled", s.Scheduled}, {"retry", s.Retry}, {"archived", s.Archived},
	}
}

// oldestLooked is how many of the oldest pending tasks are asked for their age:
// one that was put back during a shutdown knows it no more.
const oldestLooked = 3

// serversKey is the sorted set of asynq's servers, each with the time at which its
// heartbeat runs out.
const serversKey = "asynq:servers"

// lookups are the questions about one queue that travel together.
type lookups struct {
	counts  [5]*redis.IntCmd // in the order of QueueStats
	pending *redis.StringSliceCmd
	first   [3]*redis.ZSliceCmd // what is due, or ends, first: scheduled, retry, lease
}

func look(ctx context.Context, pipe redis.Pipeliner, queue string) lookups {
	return lookups{
		counts: [5]*redis.IntCmd{
			pipe.LLen(ctx, asynqKey(queue, pendingSuffix)),
			pipe.LLen(ctx, asynqKey(queue, activeSuffix)),
			pipe.ZCard(ctx, asynqKey(queue, scheduledSuffix)),
			pipe.ZCard(ctx, asynqKey(queue, retrySuffix)),
			pipe.ZCard(ctx, asynqKey(queue, ":archived")),
		},
		pending: pipe.LRange(ctx, asynqKey(queue, pendingSuffix), -oldestLooked, -1),
		first: [3]*redis.ZSliceCmd{
			pipe.ZRangeWithScores(ctx, asynqKey(queue, scheduledSuffix), 0, 0),
			pipe.ZRangeWithScores(ctx, asynqKey(queue, retrySuffix), 0, 0),
			pipe.ZRangeWithScores(ctx, asynqKey(queue, leaseSuffix), 0, 0),
		},
	}
}

// past returns how long ago the time was that a sorted set begins with; 0: it is
// empty, or the time is to come.
func past(first *redis.ZSliceCmd, now time.Time) time.Duration {
	if len(first.Val()) == 0 {
		return 0
	}
	return max(now.Sub(time.Unix(int64(first.Val()[0].Score), 0)), 0)
}

// readOverview reads all queues in two round trips of constant cost, however much
// is queued. It does not ask asynq, whose summary fails as soon as one task's data
// is missing.
func readOverview(ctx context.Context, o *Options) (*overview, error) {
	names := queueNames(o.Shards)
	pipe := o.Client.Pipeline()
	now := o.Now()
	clock := pipe.Time(ctx)
	consumers := pipe.ZCount(ctx, serversKey, strconv.FormatInt(now.Unix(), 10), "+inf")
	asked := make([]lookups, len(names))
	for i, queue := range names {
		asked[i] = look(ctx, pipe, queue)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read queue lengths: %w", err)
	}
	now = o.Now()
	v := &overview{queues: make([]QueueStats, len(names)), consumers: consumers.Val(), clockAhead: now.Sub(clock.Val())}
	oldest := make([]*redis.StringSliceCmd, len(names))
	for i, queue := range names {
		n, first := asked[i].counts, asked[i].first
		v.queues[i] = QueueStats{
			Queue: queue, Pending: n[0].Val(), Active: n[1].Val(), Scheduled: n[2].Val(), Retry: n[3].Val(), Archived: n[4].Val(),
			Overdue: max(past(first[0], now), past(first[1], now)), LeaseExpired: past(first[2], now),
		}
		oldest[i] = asked[i].pending
	}
	if err := readAges(ctx, o.Client, v.queues, oldest, now); err != nil {
		return nil, err
	}
	return v, nil
}

func readAges(ctx context.Context, client redis.UniversalClient, stats []QueueStats, oldest []*redis.StringSliceCmd, now time.Time) error {
	pipe := client.Pipeline()
	since := make([][]*redis.StringCmd, len(stats))
	for i := range stats {
		for _, id := range oldest[i].Val() {
			since[i] = append(since[i], pipe.HGet(ctx, taskKeyPrefix(stats[i].Queue)+id, "pending_since"))
		}
	}
	if pipe.Len() == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read age of pending tasks: %w", err)
	}
	for i := range stats {
		for _, cmd := range since[i] {
			// A task that was taken meanwhile has no such field.
			if ns, err := strconv.ParseInt(cmd.Val(), 10, 64); err == nil {
				stats[i].OldestPending = max(stats[i].OldestPending, now.Sub(time.Unix(0, ns)))
			}
		}
	}
	return nil
}
