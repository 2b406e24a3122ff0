package queue

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// TestInspect finds every trouble that a queue can be in, and mends none of it.
func TestInspect(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	c, err := NewCollector(f.options())
	if err != nil {
		t.Fatal(err)
	}
	inspect := func() Inspection {
		t.Helper()
		in, err := c.Inspect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(in) != 3 || in[1] != (Inspection{QueueStats: QueueStats{Queue: "retry-00", Scheduled: in[1].Scheduled}, Looked: in[1].Scheduled}) {
			t.Fatalf("inspections %+v", in)
		}
		in[0].OldestPending, in[0].LeaseExpired = 0, 0
		return in[0]
	}
	if diff := cmp.Diff(Inspection{QueueStats: QueueStats{Queue: "deliver-00"}}, inspect()); diff != "" {
		t.Errorf("of a Redis without queues (-want +got):\n%s", diff)
	}
	p := f.producer()
	if errs := p.Enqueue(ctx, fanOut(event("evt_1", 0), 6*maxBundleDeliveries)); errs != nil {
		t.Fatal(errs)
	}
	if errs := p.Enqueue(ctx, fanOut(event("evt_2", 0), 1)); errs != nil { // rides in its task
		t.Fatal(errs)
	}
	if err := p.Defer(ctx, fanOut(event("evt_3", 0), 20), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	pending, active, lease := asynqKey("deliver-00", pendingSuffix), asynqKey("deliver-00", activeSuffix), asynqKey("deliver-00", ":lease")
	ids := make([]string, 4)
	for i := range ids {
		ids[i] = f.client.LMove(ctx, pending, active, "RIGHT", "LEFT").Val()
	}
	healthy, overdue, orphan, ghost := ids[0], ids[1], ids[2], ids[3]
	now := float64(time.Now().Unix())
	f.client.ZAdd(ctx, lease, redis.Z{Score: now - 60, Member: healthy}, redis.Z{Score: now - 600, Member: overdue}, redis.Z{Score: now, Member: ghost})
	f.client.Del(ctx, taskKeyPrefix("deliver-00")+ghost)
	f.client.Set(ctx, asynqKey("deliver-00", pausedSuffix), "1", 0)
	left := f.client.LRange(ctx, pending, 0, -1).Val()
	f.client.Del(ctx, blobKey("deliver-00", left[1])) // left[0] carries its delivery itself
	want := Inspection{
		QueueStats: QueueStats{Queue: "deliver-00", Pending: 3, Active: 4},
		Paused:     true, Abandoned: 1, WithoutLease: 1, WithoutData: 1, Looked: 2, BlobsMissing: 1,
	}
	for range 2 {
		if diff := cmp.Diff(want, inspect()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if n := f.client.ZScore(ctx, lease, orphan).Val(); n != 0 {
		t.Errorf("the inspection gave the orphan %s a lease", orphan)
	}
}

// TestSenders sees a consumer as one process with all its queues.
func TestSenders(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c, err := NewCollector(f.options())
	if err != nil {
		t.Fatal(err)
	}
	if senders, err := c.Senders(); err != nil || len(senders) != 0 {
		t.Errorf("without consumer: %v, %v", senders, err)
	}
	stop := f.consume(func(context.Context, *core.Bundle) error { return nil })
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	want := []Sender{{Host: host, PID: os.Getpid(), Queues: []string{"bulk-00", "deliver-00", "retry-00"}, Bundles: 3 * DefaultBundles}}
	until(t, "the heartbeats of all queues", func() bool {
		got, err := c.Senders()
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			got[i].Started = time.Time{}
		}
		return cmp.Equal(want, got)
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if senders, err := c.Senders(); err != nil || len(senders) != 0 {
		t.Errorf("after its end: %v, %v", senders, err)
	}
}
