package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// maxInspected bounds the waiting tasks of a queue, per state and the next to
// run, whose bundle an inspection looks for.
const maxInspected = 100

// Inspection is what an operator's look finds in a queue. Everything but the
// QueueStats and Paused is a matter of the tasks that were looked at: 1,000
// running ones, and 100 of each kind of waiting ones.
type Inspection struct {
	QueueStats
	Paused       bool  // asynq hands out nothing
	Abandoned    int64 // running tasks whose lease ended so long ago that nobody is alive who recovers them
	WithoutLease int64 // running tasks that only the reconciler of a sender recovers
	WithoutData  int64 // running tasks whose data is gone
	Looked       int64 // waiting tasks whose bundle was looked for
	BlobsMissing int64 // of those, the ones whose bundle is gone
}

// Inspect looks at each queue in the order of Stats. It changes nothing.
func (c *Collector) Inspect(ctx context.Context) ([]Inspection, error) {
	stats, err := c.Stats(ctx)
	if err != nil {
		return nil, err
	}
	inspections := make([]Inspection, len(stats))
	for i := range stats {
		inspections[i].QueueStats = stats[i]
		if err := c.inspect(ctx, &inspections[i]); err != nil {
			return nil, fmt.Errorf("inspect queue %s: %w", stats[i].Queue, err)
		}
	}
	return inspections, nil
}

func (c *Collector) inspect(ctx context.Context, in *Inspection) error {
	paused, err := c.o.Client.Exists(ctx, asynqKey(in.Queue, pausedSuffix)).Result()
	if err != nil {
		return err
	}
	in.Paused = paused > 0
	running, err := checkRunning(ctx, &c.o, in.Queue, 0)
	if err != nil {
		return err
	}
	in.Abandoned, in.WithoutLease, in.WithoutData = running.overdue, running.withoutLease, running.withoutData
	waiting, err := c.waiting(in)
	if err != nil {
		return err
	}
	in.Looked = int64(len(waiting))
	// A task may have been done between the two looks. Then it is gone at the
	// second one too.
	missing, err := c.withoutBlob(ctx, in.Queue, waiting)
	if err != nil || len(missing) == 0 {
		return err
	}
	if waiting, err = c.waiting(in); err != nil {
		return err
	}
	still := slices.DeleteFunc(missing, func(id string) bool { return !slices.Contains(waiting, id) })
	if still, err = c.withoutBlob(ctx, in.Queue, still); err != nil {
		return err
	}
	in.BlobsMissing = int64(len(still))
	return nil
}

// waiting returns the ids of waiting tasks whose bundle lies in a blob. asynq
// decodes the tasks; those without data it leaves out.
func (c *Collector) waiting(in *Inspection) ([]string, error) {
	inspector := asynq.NewInspectorFromRedisClient(c.o.Client) // the client stays open: it is not the inspector's
	lists := []struct {
		tasks int64
		list  func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error)
	}{
		{in.Pending, inspector.ListPendingTasks},
		{in.Scheduled, inspector.ListScheduledTasks},
		{in.Retry, inspector.ListRetryTasks},
	}
	var ids []string
	for _, l := range lists {
		if l.tasks == 0 {
			continue // asynq takes a queue that never had a task for an error
		}
		tasks, err := l.list(in.Queue, asynq.PageSize(maxInspected))
		if errors.Is(err, asynq.ErrQueueNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, task := range tasks {
			if p, err := parsePayload(task.Payload); err == nil && p.frame == nil {
				ids = append(ids, task.ID)
			}
		}
	}
	return ids, nil
}

// withoutBlob returns those tasks whose blob is not there.
func (c *Collector) withoutBlob(ctx context.Context, queue string, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	pipe := c.o.Client.Pipeline()
	exists := make([]*redis.IntCmd, len(ids))
	for i, id := range ids {
		exists[i] = pipe.Exists(ctx, blobKey(queue, id))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	var missing []string
	for i, id := range ids {
		if exists[i].Val() == 0 {
			missing = append(missing, id)
		}
	}
	return missing, nil
}

// Sender is a process that takes tasks, as asynq's heartbeats show it. They last
// ten seconds.
type Sender struct {
	Host    string
	PID     int
	Queues  []string // in order
	Bundles int      // that run at a time, in all queues
	Started time.Time
}

// Senders returns the processes that take tasks, the oldest first. A process has
// one asynq server per queue. Which ones are alive is judged by this machine's
// clock.
func (c *Collector) Senders() ([]Sender, error) {
	servers, err := asynq.NewInspectorFromRedisClient(c.o.Client).Servers()
	if err != nil {
		return nil, fmt.Errorf("list senders: %w", err)
	}
	type process struct {
		host string
		pid  int
	}
	senders := make(map[process]*Sender)
	for _, server := range servers {
		id := process{server.Host, server.PID}
		s, ok := senders[id]
		if !ok {
			s = &Sender{Host: server.Host, PID: server.PID, Started: server.Started}
			senders[id] = s
		}
		s.Queues = append(s.Queues, slices.Collect(maps.Keys(server.Queues))...)
		s.Bundles += server.Concurrency
		if server.Started.Before(s.Started) {
			s.Started = server.Started
		}
	}
	list := make([]Sender, 0, len(senders))
	for _, s := range senders {
		slices.Sort(s.Queues)
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b Sender) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID))
	})
	return list, nil
}
