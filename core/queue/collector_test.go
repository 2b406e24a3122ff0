package queue

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

func TestCollector(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	c, err := NewCollector(f.options())
	if err != nil {
		t.Fatal(err)
	}
	p := f.producer()
	for range 3 {
		if errs := p.Enqueue(ctx, fanOut(event("evt_1", 0), 20)); errs != nil {
			t.Fatal(errs)
		}
	}
	if err := p.Defer(ctx, fanOut(event("evt_2", 0), 2), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	// The oldest was put back and has forgotten its age, and one is archived.
	ids := f.client.LRange(ctx, asynqKey("deliver-00", pendingSuffix), 0, -1).Val()
	f.client.HDel(ctx, taskKeyPrefix("deliver-00")+ids[2], "pending_since")
	f.client.HSet(ctx, taskKeyPrefix("deliver-00")+ids[1], "pending_since", time.Now().Add(-time.Hour).UnixNano())
	f.client.ZAdd(ctx, asynqKey("deliver-00", ":archived"), redis.Z{Score: 1, Member: "x"})
	// A running task has lost its sender, a retry was due an hour ago, and of two
	// consumers one has died.
	hour := float64(time.Now().Add(-time.Hour).Unix())
	f.client.ZAdd(ctx, asynqKey("deliver-00", ":lease"), redis.Z{Score: hour, Member: "y"})
	f.client.ZAdd(ctx, asynqKey("retry-00", retrySuffix), redis.Z{Score: hour, Member: "z"})
	f.client.ZAdd(ctx, serversKey, redis.Z{Score: hour, Member: "dead"}, redis.Z{Score: -hour + 2*float64(time.Now().Unix()), Member: "alive"})
	consumers := "# HELP sealpost_queue_consumers Consumers with a fresh heartbeat; each sender runs one for each queue.\n" +
		"# TYPE sealpost_queue_consumers gauge\nsealpost_queue_consumers 1\n"
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(consumers), "sealpost_queue_consumers"); err != nil {
		t.Error(err)
	}
	want := `
# HELP sealpost_queue_tasks Tasks in a queue. Any in the state archived is an alarm.
# TYPE sealpost_queue_tasks gauge
sealpost_queue_tasks{queue="bulk-00",state="active"} 0
sealpost_queue_tasks{queue="bulk-00",state="archived"} 0
sealpost_queue_tasks{queue="bulk-00",state="pending"} 0
sealpost_queue_tasks{queue="bulk-00",state="retry"} 0
sealpost_queue_tasks{queue="bulk-00",state="scheduled"} 0
sealpost_queue_tasks{queue="deliver-00",state="active"} 0
sealpost_queue_tasks{queue="deliver-00",state="archived"} 1
sealpost_queue_tasks{queue="deliver-00",state="pending"} 3
sealpost_queue_tasks{queue="deliver-00",state="retry"} 0
sealpost_queue_tasks{queue="deliver-00",state="scheduled"} 0
sealpost_queue_tasks{queue="retry-00",state="active"} 0
sealpost_queue_tasks{queue="retry-00",state="archived"} 0
sealpost_queue_tasks{queue="retry-00",state="pending"} 0
sealpost_queue_tasks{queue="retry-00",state="retry"} 1
sealpost_queue_tasks{queue="retry-00",state="scheduled"} 1
`
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), "sealpost_queue_tasks"); err != nil {
		t.Error(err)
	}
	stats, err := c.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if age := stats[0].OldestPending; age < time.Hour || age > time.Hour+time.Minute {
		t.Errorf("oldest pending %v; want an hour", age)
	}
	for name, age := range map[string]time.Duration{"lease expired": stats[0].LeaseExpired, "overdue": stats[1].Overdue} {
		if age < time.Hour || age > time.Hour+time.Minute {
			t.Errorf("%s for %v; want an hour", name, age)
		}
	}
	stats[0].OldestPending, stats[0].LeaseExpired, stats[1].Overdue = 0, 0, 0
	if diff := cmp.Diff([]QueueStats{{Queue: "deliver-00", Pending: 3, Archived: 1}, {Queue: "retry-00", Scheduled: 1, Retry: 1}, {Queue: "bulk-00"}}, stats); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	lint(t, f.registry)
}

// TestCollectorSurvivesGhosts has a pending task without data, on which asynq's
// own summary fails.
func TestCollectorSurvivesGhosts(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c, err := NewCollector(f.options())
	if err != nil {
		t.Fatal(err)
	}
	f.client.LPush(t.Context(), asynqKey("deliver-00", pendingSuffix), "ghost")
	if stats, err := c.Stats(t.Context()); err != nil || stats[0].Pending != 1 {
		t.Errorf("Stats = %v, %v", stats, err)
	}
}

func TestCollectorWithoutRedis(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: t.TempDir() + "/none", MaxRetries: -1, DialerRetries: 1, DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	f := setupWith(t, client)
	if _, err := NewCollector(f.options()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if families, err := f.registry.Gather(); err != nil || len(families) != 0 {
			t.Errorf("Gather = %v, %v; want nothing", families, err)
		}
	}
	if n := strings.Count(f.log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings; want 1:\n%s", n, f.log)
	}
}

// TestProducersShareMetrics has two producers in one process, as when gateway
// and sender run together.
func TestProducersShareMetrics(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, p := range []*Producer{f.producer(), f.producer()} {
		if errs := p.Enqueue(t.Context(), []core.Delivery{fanOut(event("evt_1", 0), 1)[0]}); errs != nil {
			t.Fatal(errs)
		}
	}
	if got := f.counter("sealpost_queue_bundles_stored_total"); got != 2 {
		t.Errorf("%v bundles counted; want 2", got)
	}
}
