package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/core/queue"
)

// Ages of the oldest pending task from which on there is a warning or an error.
const (
	backlogWarning = time.Minute
	backlogError   = 10 * time.Minute
)

func checkBacklog(ctx context.Context, p *patient) (Finding, error) {
	queues, err := p.readQueues(ctx)
	if err != nil {
		return Finding{}, err
	}
	var pending, active, scheduled, retry int64
	var oldest *queue.Inspection
	for i := range queues {
		q := &queues[i]
		pending, active, scheduled, retry = pending+q.Pending, active+q.Active, scheduled+q.Scheduled, retry+q.Retry
		if oldest == nil || q.OldestPending > oldest.OldestPending {
			oldest = q
		}
	}
	if oldest == nil {
		return Finding{}, errNoQueues
	}
	text := fmt.Sprintf("%d pending, %d running, %d scheduled, %d put back tasks", pending, active, scheduled, retry)
	f := fine("%s", text)
	const more = "see processes.senders; add senders or raise SEALPOST_CONCURRENCY, and look for slow endpoints"
	switch age := oldest.OldestPending; {
	case age >= backlogError:
		f = bad(more, "%s; the oldest in %s has been waiting for %v", text, oldest.Queue, age.Round(time.Second))
	case age >= backlogWarning:
		f = doubtful(more, "%s; the oldest in %s has been waiting for %v", text, oldest.Queue, age.Round(time.Second))
	case age > 0:
		f.Detail += fmt.Sprintf("; the oldest has been waiting for %v", age.Round(time.Millisecond))
	}
	return f.with(map[string]any{
		"pending": pending, "active": active, "scheduled": scheduled, "retry": retry, "oldest_pending_ms": ms(oldest.OldestPending),
	}), nil
}

func checkPaused(ctx context.Context, p *patient) (Finding, error) {
	queues, err := p.readQueues(ctx)
	if err != nil {
		return Finding{}, err
	}
	var paused []string
	for i := range queues {
		if queues[i].Paused {
			paused = append(paused, queues[i].Queue)
		}
	}
	if len(paused) > 0 {
		return bad("whoever paused them (asynq's command line or web page) has to resume them: redis-cli DEL 'asynq:{<queue>}:paused'",
			"paused: %s; nothing in there is delivered", strings.Join(paused, ", ")), nil
	}
	return fine("none of %d queues is paused", len(queues)), nil
}

func checkArchived(ctx context.Context, p *patient) (Finding, error) {
	queues, err := p.readQueues(ctx)
	if err != nil {
		return Finding{}, err
	}
	var archived int64
	var where []string
	for i := range queues {
		if n := queues[i].Archived; n > 0 {
			archived += n
			where = append(where, fmt.Sprintf("%d in %s", n, queues[i].Queue))
		}
	}
	values := map[string]any{"archived": archived}
	if archived > 0 {
		return bad("Sealpost archives nothing: somebody did by hand, or it is a bug. asynq task runall --state archived --queue <queue> brings them back",
			"archived tasks: %s; their deliveries are not made", strings.Join(where, ", ")).with(values), nil
	}
	return fine("no task is archived").with(values), nil
}

func checkRunning(ctx context.Context, p *patient) (Finding, error) {
	queues, err := p.readQueues(ctx)
	if err != nil {
		return Finding{}, err
	}
	var overdue, withoutLease, withoutData int64
	for i := range queues {
		overdue, withoutLease, withoutData = overdue+queues[i].Abandoned, withoutLease+queues[i].WithoutLease, withoutData+queues[i].WithoutData
	}
	values := map[string]any{"overdue": overdue, "without_lease": withoutLease, "without_data": withoutData}
	switch {
	case withoutData > 0:
		return bad("something deleted keys of Redis; see redis.eviction, and who else uses this database", "%d running tasks have lost their data: their deliveries are lost", withoutData).with(values), nil
	case overdue > 0:
		return bad("start a sender: it takes them over within fifteen seconds", "%d running tasks were left by a sender that ended, and nobody recovers them", overdue).with(values), nil
	case withoutLease > 0:
		return doubtful("look again in two minutes: senders mend this once a minute", "%d running tasks have no lease", withoutLease).with(values), nil
	}
	return fine("every running task is held by a sender").with(values), nil
}

func checkBundles(ctx context.Context, p *patient) (Finding, error) {
	queues, err := p.readQueues(ctx)
	if err != nil {
		return Finding{}, err
	}
	var looked, missing int64
	for i := range queues {
		looked, missing = looked+queues[i].Looked, missing+queues[i].BlobsMissing
	}
	values := map[string]any{"looked": looked, "missing": missing}
	if missing > 0 {
		return bad("something deleted keys of Redis; see redis.eviction, and who else uses this database. sealpost_bundles_lost_total and the log of senders name them when they are given up",
			"%d of %d waiting tasks miss their bundle: their deliveries are lost", missing, looked).with(values), nil
	}
	return fine("%d waiting tasks were looked at, all have their bundle", looked).with(values), nil
}
