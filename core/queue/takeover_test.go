package queue

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// take makes the oldest pending task of deliver-00 run as if a sender had taken
// it, under a lease that ended so long ago.
func (f *fixture) take(over time.Duration) (id string) {
	f.t.Helper()
	ctx := f.t.Context()
	id, err := f.client.LMove(ctx, asynqKey("deliver-00", pendingSuffix), asynqKey("deliver-00", activeSuffix), "RIGHT", "LEFT").Result()
	if err != nil {
		f.t.Fatal(err)
	}
	f.client.HSet(ctx, taskKeyPrefix("deliver-00")+id, "state", "active")
	f.client.HDel(ctx, taskKeyPrefix("deliver-00")+id, "pending_since")
	f.client.ZAdd(ctx, asynqKey("deliver-00", leaseSuffix), redis.Z{Score: float64(time.Now().Add(-over).Unix()), Member: id})
	return id
}

// takesOver fails unless c takes over what a killed sender left. Nobody consumes
// the queue from now on.
func (f *fixture) takesOver(c *Consumer) {
	f.t.Helper()
	f.client.Set(f.t.Context(), asynqKey("deliver-00", pausedSuffix), "1", 0)
	if errs := f.producer().Enqueue(f.t.Context(), fanOut(event("evt_1", 0), 1)); errs != nil {
		f.t.Fatal(errs)
	}
	f.take(time.Hour)
	now := time.Now()
	if err := c.takeOverAll(f.t.Context(), &lookout{since: now.Add(-time.Minute), last: now.Add(-time.Second)}); err != nil {
		f.t.Errorf("take over: %v", err)
	}
	if n := f.counter("sealpost_queue_takeovers_total"); n != 1 {
		f.t.Errorf("%v tasks taken over, want 1", n)
	}
}

// inlineMark is the mark of a lone delivery's bundle.
func inlineMark(id string) core.Mark {
	return core.Mark{DoneKey: doneKey("deliver-00", id), Size: 1, TTL: inlineMarkTTL}
}

// TestTakeOver takes what a killed sender had and nothing else. The next runs are
// later runs: what the killed sender had settled is not sent again.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	p := f.producer()
	for _, size := range []int{1, 1, 20, 1, 1} {
		if errs := p.Enqueue(ctx, fanOut(event("evt_1", 0), size)); errs != nil {
			t.Fatal(errs)
		}
	}
	settled, lone, many := f.take(leaseMargin+2*time.Second), f.take(time.Hour), f.take(leaseMargin+time.Second)
	fresh, ghost := f.take(leaseMargin-2*time.Second), f.take(time.Hour)
	f.settleAll(inlineMark(settled))
	f.client.Del(ctx, taskKeyPrefix("deliver-00")+ghost, bellKey("deliver-00"))
	lease, active, pending := asynqKey("deliver-00", leaseSuffix), asynqKey("deliver-00", activeSuffix), asynqKey("deliver-00", pendingSuffix)
	f.client.ZAdd(ctx, lease, redis.Z{Score: 12345, Member: "done long ago"})

	handler, bundles := f.collect()
	c, err := NewConsumer(ConsumerOptions{Options: f.options(), Handler: handler})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.takeOverAll(ctx, &lookout{}); err != nil {
		t.Fatal(err)
	}
	if n := f.client.LLen(ctx, active).Val(); n != 5 {
		t.Fatalf("%d tasks run after a look at a Redis that has just answered for the first time, want 5", n)
	}
	for range 2 { // the second time there is nothing to take
		now := time.Now()
		if err := c.takeOverAll(ctx, &lookout{since: now.Add(-time.Minute), last: now.Add(-time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{fresh}, f.client.LRange(ctx, active, 0, -1).Val()); diff != "" {
		t.Errorf("active (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{fresh}, f.client.ZRange(ctx, lease, 0, -1).Val()); diff != "" {
		t.Errorf("leases (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{lone, settled, many}, f.client.LRange(ctx, pending, 0, -1).Val()); diff != "" {
		t.Errorf("pending, by the end of their leases (-want +got):\n%s", diff)
	}
	if rings := f.client.LLen(ctx, bellKey("deliver-00")).Val(); rings != 3 {
		t.Errorf("%d rings, want 3", rings)
	}
	if deliver, _ := f.stats(); deliver.Pending != 3 || f.client.Exists(ctx, taskKeyPrefix("deliver-00")+ghost).Val() != 0 {
		t.Errorf("%d tasks pending, want 3 and no ghost", deliver.Pending)
	}
	if n, ghosts := f.counter("sealpost_queue_takeovers_total"), f.counter("sealpost_queue_repairs_total", "ghost"); n != 3 || ghosts != 1 {
		t.Errorf("%v taken over, %v ghosts, want 3 and 1", n, ghosts)
	}

	f.consume(handler)
	ran := make(map[string]int) // deliveries by bundle
	for range 2 {
		b := receive(t, "bundle", bundles)
		ran[b.ID] = len(b.Deliveries)
	}
	if diff := cmp.Diff(map[string]int{many: 20, lone: 1}, ran); diff != "" {
		t.Errorf("what ran again; the settled one must not (-want +got):\n%s", diff)
	}
	until(t, "the settled one has ended", func() bool { return f.counter("sealpost_bundles_already_settled_total") == 1 })
}

// TestTakenOverOwnerLives: an owner whose task was taken ends its run without
// harm, whoever has the task by then.
func TestTakenOverOwnerLives(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	if errs := f.producer().Enqueue(ctx, fanOut(event("evt_1", 0), 1)); errs != nil {
		t.Fatal(errs)
	}
	runs, goOn := make(chan *core.Bundle, 2), make(chan struct{})
	c, _ := f.consumeWith(func(_ context.Context, b *core.Bundle) error {
		runs <- b
		<-goOn
		f.settleAll(b.Mark)
		return nil
	})
	first := receive(t, "first run", runs)
	lease := asynqKey("deliver-00", leaseSuffix)
	f.client.ZAdd(ctx, lease, redis.Z{Score: 12345, Member: first.ID})
	now := time.Now()
	if err := c.takeOverAll(ctx, &lookout{since: now.Add(-time.Minute), last: now.Add(-time.Second)}); err != nil {
		t.Fatal(err)
	}
	if second := receive(t, "second run", runs); second.ID != first.ID {
		t.Errorf("bundle %s, want %s", second.ID, first.ID)
	}
	close(goOn)
	until(t, "both runs ended", func() bool {
		deliver, _ := f.stats()
		return deliver.Active+deliver.Pending+deliver.Retry == 0
	})
	f.empty()
}

func TestSteady(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answers []int // at these seconds
		steady  bool  // after the last one
	}{
		{"the first answer", []int{0}, false},
		{"not long enough", []int{0, 5, 9}, false},
		{"long enough", []int{0, 5, 10}, true},
		{"long ago", []int{0, 3600}, false},
		{"away in between", []int{0, 5, 10, 19}, false},
		{"away in between, and back", []int{0, 5, 10, 19, 24, 29}, true},
		{"another Redis, with an earlier clock", []int{100, 105, 110, 40}, false},
		{"another Redis, long enough", []int{100, 105, 110, 40, 45, 50}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s lookout
			var steady bool
			for _, second := range tt.answers {
				steady = s.answered(time.Unix(int64(1_800_000_000+second), 0))
			}
			if steady != tt.steady {
				t.Errorf("steady %v after answers at %v s, want %v", steady, tt.answers, tt.steady)
			}
		})
	}
}

// TestLookoutForgets: what was known of a Redis that was away since is not used.
func TestLookoutForgets(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var l lookout
	l.answered(now)
	l.over("deliver-00", nil, now)
	l.answered(now.Add(5 * time.Second))
	if len(l.next) != 1 {
		t.Error("it does not know when to look next")
	}
	l.answered(now.Add(-time.Hour))
	if len(l.next) != 0 {
		t.Error("another Redis is looked at by the clock of the one before")
	}
}

// TestLookout: a queue is asked about again when its first lease may be over, or
// after twenty seconds.
func TestLookout(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	lease := func(end time.Duration) []redis.Z { return []redis.Z{{Score: float64(now.Add(end).Unix())}} }
	tests := []struct {
		name  string
		first []redis.Z
		over  bool
		next  time.Duration // from now
	}{
		{"no lease", nil, false, maxRest},
		{"fresh lease", lease(30 * time.Second), false, maxRest},
		{"lease that ends soon", lease(10 * time.Second), false, 10*time.Second + leaseMargin},
		{"lease that has just ended", lease(-time.Second), false, leaseMargin - time.Second},
		{"lease that is over", lease(-leaseMargin), true, 0},
		{"lease that is long over", lease(-time.Hour), true, leaseMargin - time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var l lookout
			if over := l.over("deliver-00", tt.first, now); over != tt.over {
				t.Errorf("over %v, want %v", over, tt.over)
			}
			if next := l.next["deliver-00"].Sub(now); next != tt.next {
				t.Errorf("next look in %v, want %v", next, tt.next)
			}
		})
	}
}
