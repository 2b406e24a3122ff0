package queue

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

func TestReconcile(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	if errs := f.producer().Enqueue(ctx, fanOut(event("evt_1", 0), 3*maxBundleDeliveries)); errs != nil {
		t.Fatal(errs)
	}
	pending, active, lease := asynqKey("deliver-00", pendingSuffix), asynqKey("deliver-00", activeSuffix), asynqKey("deliver-00", ":lease")
	ids := make([]string, 3)
	for i := range ids {
		ids[i] = f.client.LMove(ctx, pending, active, "RIGHT", "LEFT").Val()
	}
	healthy, orphan, ghost := ids[0], ids[1], ids[2]
	f.client.ZAdd(ctx, lease, redis.Z{Score: 12345, Member: healthy}, redis.Z{Score: 12345, Member: ghost})
	f.client.Del(ctx, taskKeyPrefix("deliver-00")+ghost)
	f.client.HSet(ctx, taskKeyPrefix("deliver-00")+ghost, "state", "active") // as asynq leaves it
	c, err := NewConsumer(ConsumerOptions{Options: f.options(), Handler: func(context.Context, *core.Bundle) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to mend
		if err := c.reconcileAll(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.client.ZScore(ctx, lease, healthy).Val(); got != 12345 {
		t.Errorf("lease of a healthy task is now %v", got)
	}
	if left := time.Until(time.Unix(int64(f.client.ZScore(ctx, lease, orphan).Val()), 0)); left < 20*time.Second || left > freshLease {
		t.Errorf("the orphan's lease ends in %v; want 30s", left)
	}
	if diff := cmp.Diff([]string{orphan, healthy}, f.client.LRange(ctx, active, 0, -1).Val()); diff != "" {
		t.Errorf("active (-want +got):\n%s", diff)
	}
	if f.client.Exists(ctx, taskKeyPrefix("deliver-00")+ghost).Val() != 0 || f.client.ZCard(ctx, lease).Val() != 2 {
		t.Error("the ghost is still there")
	}
	if l, g := f.counter("sealpost_queue_repairs_total", "lease"), f.counter("sealpost_queue_repairs_total", "ghost"); l != 1 || g != 1 {
		t.Errorf("%v leases and %v ghosts counted; want 1 of each", l, g)
	}
}
