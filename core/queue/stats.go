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

// readStats reads all queues in two round trips, and the clock of Redis. It does
// not ask asynq, whose summary fails as soon as one task's data is missing.
func readStats(ctx context.Context, o *Options) (stats []QueueStats, clockAhead time.Duration, err error) {
	names := queueNames(o.Shards)
	pipe := o.Client.Pipeline()
	clock := pipe.Time(ctx)
	counts := make([][5]*redis.IntCmd, len(names))
	oldest := make([]*redis.StringSliceCmd, len(names))
	for i, queue := range names {
		counts[i] = [5]*redis.IntCmd{
			pipe.LLen(ctx, asynqKey(queue, pendingSuffix)),
			pipe.LLen(ctx, asynqKey(queue, activeSuffix)),
			pipe.ZCard(ctx, asynqKey(queue, scheduledSuffix)),
			pipe.ZCard(ctx, asynqKey(queue, retrySuffix)),
			pipe.ZCard(ctx, asynqKey(queue, ":archived")),
		}
		oldest[i] = pipe.LRange(ctx, asynqKey(queue, pendingSuffix), -oldestLooked, -1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, 0, fmt.Errorf("read queue lengths: %w", err)
	}
	now := o.Now()
	stats = make([]QueueStats, len(names))
	for i, queue := range names {
		n := counts[i]
		stats[i] = QueueStats{Queue: queue, Pending: n[0].Val(), Active: n[1].Val(), Scheduled: n[2].Val(), Retry: n[3].Val(), Archived: n[4].Val()}
	}
	if err := readAges(ctx, o.Client, stats, oldest, now); err != nil {
		return nil, 0, err
	}
	return stats, now.Sub(clock.Val()), nil
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
