package queue

import (
	"context"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// pendingBundle returns the id of the only pending task of a queue.
func (f *fixture) pendingBundle(queue string) string {
	f.t.Helper()
	ids, err := f.client.LRange(context.Background(), asynqKey(queue, pendingSuffix), 0, -1).Result()
	if err != nil || len(ids) != 1 {
		f.t.Fatalf("pending in %s: %v, %v; want one task", queue, ids, err)
	}
	return ids[0]
}

func (f *fixture) bundleKeys() []string {
	f.t.Helper()
	keys, err := f.client.Keys(context.Background(), "sp:*:bundle:*").Result()
	if err != nil {
		f.t.Fatal(err)
	}
	return keys
}

func TestEnqueueStoresBlobAndTask(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	if errs := f.producer().Enqueue(ctx, fanOut(event("evt_1", 0), 20)); errs != nil {
		t.Fatal(errs)
	}
	id := f.pendingBundle("deliver-00")
	key := blobKey("deliver-00", id)
	if diff := cmp.Diff([]string{key}, f.bundleKeys()); diff != "" {
		t.Fatalf("bundle keys (-want +got):\n%s", diff)
	}
	if ttl := f.client.TTL(ctx, key).Val(); ttl < 29*24*time.Hour || ttl > 30*24*time.Hour {
		t.Errorf("TTL of the blob is %v; want 30 days", ttl)
	}
	task := f.client.HGet(ctx, taskKeyPrefix("deliver-00")+id, "msg").Val()
	if len(task) > 150 {
		t.Errorf("the task takes %d bytes; want a reference only", len(task))
	}
	ds, err := frame.Decode([]byte(f.client.Get(ctx, key).Val()))
	if err != nil || len(ds) != 20 {
		t.Errorf("blob: %d deliveries, %v", len(ds), err)
	}
	if got := f.counter("sealpost_queue_bundles_stored_total"); got != 1 {
		t.Errorf("%v bundles counted; want 1", got)
	}
	stored := f.client.StrLen(ctx, key).Val()
	if n, sum := f.histogram("sealpost_queue_bundle_bytes"); n != 1 || sum != float64(stored) {
		t.Errorf("%d bundles of %v bytes counted; want one of %d", n, sum, stored)
	}
	if got := f.counter("sealpost_queue_bundle_uncompressed_bytes_total"); got <= float64(stored) {
		t.Errorf("%v bytes before compression, %d after", got, stored)
	}
	lint(t, f.registry)
}

func TestEnqueueInline(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.producer()
	if errs := p.Enqueue(t.Context(), fanOut(event("evt_1", 1024), 1)); errs != nil {
		t.Fatal(errs)
	}
	f.pendingBundle("deliver-00")
	if keys := f.bundleKeys(); len(keys) != 0 {
		t.Errorf("a lone small delivery has keys %v", keys)
	}
}

func TestEnqueueSpreadsBundlesOverShards(t *testing.T) {
	t.Parallel()
	f := setup(t)
	o := f.options()
	o.Shards = 3
	p, err := NewProducer(ProducerOptions{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	if errs := p.Enqueue(t.Context(), fanOut(event("evt_1", 0), 6*maxBundleDeliveries)); errs != nil {
		t.Fatal(errs)
	}
	for _, queue := range []string{"deliver-00", "deliver-01", "deliver-02"} {
		if n := f.client.LLen(t.Context(), asynqKey(queue, pendingSuffix)).Val(); n != 2 {
			t.Errorf("%s has %d bundles; want 2", queue, n)
		}
	}
}

// TestEnqueueLostReply loses replies after Redis has done its part: the bundle
// is confirmed, and stands in the queue once.
func TestEnqueueLostReply(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := f.sibling()
	losses := &countdown{n: 3}
	other.AddHook(&faultHook{pipeline: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
		err := next(ctx, cmds)
		if losses.take() {
			return failAll(cmds, io.EOF)
		}
		return err
	}})
	if errs := f.producerOn(other).Enqueue(t.Context(), fanOut(event("evt_1", 0), 20)); errs != nil {
		t.Fatal(errs)
	}
	f.pendingBundle("deliver-00")
	if keys := f.bundleKeys(); len(keys) != 1 {
		t.Errorf("blobs %v; want one", keys)
	}
	if got := f.counter("sealpost_queue_resends_total"); got != 3 {
		t.Errorf("%v resends; want 3", got)
	}
}

// TestEnqueueLostReplyAfterTheRun is the worst moment for a lost reply: the
// bundle has been sent and its task is gone when it is stored again. It must not
// be sent twice.
func TestEnqueueLostReplyAfterTheRun(t *testing.T) {
	t.Parallel()
	for _, deliveries := range []int{1, 20} {
		t.Run(strconv.Itoa(deliveries), func(t *testing.T) {
			t.Parallel()
			testLostReplyAfterTheRun(t, deliveries)
		})
	}
}

func testLostReplyAfterTheRun(t *testing.T, deliveries int) {
	f := setup(t)
	runs := make(chan *core.Bundle, 10)
	f.consume(func(_ context.Context, b *core.Bundle) error {
		f.settleAll(b.Mark)
		runs <- b
		return nil
	})
	other := f.sibling()
	losses := &countdown{n: 1}
	other.AddHook(&faultHook{pipeline: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
		err := next(ctx, cmds)
		if cmds[len(cmds)-2].Err() == nil && losses.take() {
			receive(t, "first run", runs)
			until(t, "task done", func() bool { d, _ := f.stats(); return d.Pending+d.Active == 0 })
			return failAll(cmds, io.EOF)
		}
		return err
	}})
	if errs := f.producerOn(other).Enqueue(t.Context(), fanOut(event("evt_1", 0), deliveries)); errs != nil {
		t.Fatal(errs)
	}
	until(t, "second task done", func() bool { return f.counter("sealpost_bundles_already_settled_total") == 1 })
	until(t, "queue empty", func() bool { d, _ := f.stats(); return d.Pending+d.Active == 0 })
	f.empty()
	if len(runs) != 0 {
		t.Error("the bundle ran twice")
	}
}

// TestEnqueueWithoutBlobIsNotConfirmed lets Redis refuse the blob and take the
// task, as it can when its memory is full.
func TestEnqueueWithoutBlobIsNotConfirmed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		refusal   redisError
		confirmed bool
	}{
		{name: "for good", refusal: "OOM command not allowed when used memory > 'maxmemory'."},
		{name: "for a moment", refusal: "LOADING Redis is loading the dataset in memory", confirmed: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			other := f.sibling()
			refusals := &countdown{n: 1}
			other.AddHook(&faultHook{pipeline: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
				if !refusals.take() {
					return next(ctx, cmds)
				}
				err := next(ctx, cmds[1:])
				if err != nil { // the script was not there yet; it comes again
					refusals.give()
				}
				cmds[0].SetErr(tt.refusal)
				return err
			}})
			errs := f.producerOn(other).Enqueue(t.Context(), fanOut(event("evt_1", 0), 20))
			if confirmed := errs == nil; confirmed != tt.confirmed {
				t.Fatalf("Enqueue = %v; want confirmed %t", errs, tt.confirmed)
			}
			if !tt.confirmed {
				if core.CodeOf(errs[0]) != core.CodeUnavailable || len(errs) != 20 {
					t.Errorf("%d errors, the first %v; want 20 with code %s", len(errs), errs[0], core.CodeUnavailable)
				}
				if !errors.Is(errs[0], core.ErrNotStored) {
					t.Errorf("%v; want it known that nothing is stored", errs[0])
				}
				return
			}
			if _, err := f.client.Get(t.Context(), blobKey("deliver-00", f.pendingBundle("deliver-00"))).Result(); err != nil {
				t.Errorf("blob: %v", err)
			}
		})
	}
}

func TestEnqueueGivesUpInTime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	nowhere := redis.NewClient(&redis.Options{Network: "unix", Addr: t.TempDir() + "/none", MaxRetries: -1, DialerRetries: 1, DisableIdentity: true})
	t.Cleanup(func() { _ = nowhere.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	ds := append(fanOut(event("evt_1", 0), 300), fanOut(tooLarge(), 1)...)
	errs := f.producerOn(nowhere).Enqueue(ctx, ds)
	if len(errs) != len(ds) {
		t.Fatalf("%d errors; want %d", len(errs), len(ds))
	}
	for i, err := range errs {
		want := core.CodeUnavailable
		if i == 300 {
			want = core.CodeTooLarge
		}
		if core.CodeOf(err) != want {
			t.Fatalf("delivery %d: %v; want code %s", i, err, want)
		}
	}
}

func TestEnqueueAfterScriptFlush(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := setupWith(t, server.Client(t))
	p := f.producer()
	for range 3 {
		if err := f.client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if errs := p.Enqueue(t.Context(), fanOut(event("evt_1", 0), 20)); errs != nil {
			t.Fatal(errs)
		}
	}
	if d, _ := f.stats(); d.Pending != 3 || len(f.bundleKeys()) != 3 {
		t.Errorf("%d tasks, blobs %v; want 3 of each", d.Pending, f.bundleKeys())
	}
	if got := f.counter("sealpost_queue_resends_total"); got != 0 {
		t.Errorf("%v resends; a missing script is not a failure", got)
	}
}

// TestTasksNeverExhaust holds what keeps asynq's archive empty.
func TestTasksNeverExhaust(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, option := range f.producer().taskOptions("q", "id", time.Time{}) {
		if strings.HasPrefix(option.String(), "MaxRetry") && option.Value() != math.MaxInt32 {
			t.Errorf("MaxRetry is %v", option.Value())
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { _ = client.Close() })
	handler := func(context.Context, *core.Bundle) error { return nil }
	tests := []struct {
		name string
		make func() error
		want string
	}{
		{"client", func() error { _, err := NewProducer(ProducerOptions{}); return err }, "Client"},
		{"shards", func() error { _, err := NewCollector(Options{Client: client, Shards: 101}); return err }, "Shards"},
		{"task timeout", func() error {
			_, err := NewProducer(ProducerOptions{Options: Options{Client: client}, TaskTimeout: 1500 * time.Millisecond})
			return err
		}, "TaskTimeout"},
		{"handler", func() error { _, err := NewConsumer(ConsumerOptions{Options: Options{Client: client}}); return err }, "Handler"},
		{"bundles", func() error {
			_, err := NewConsumer(ConsumerOptions{Options: Options{Client: client}, Handler: handler, Bundles: -1})
			return err
		}, "Bundles"},
		{"shutdown timeout", func() error {
			_, err := NewConsumer(ConsumerOptions{Options: Options{Client: client}, Handler: handler, ShutdownTimeout: time.Millisecond})
			return err
		}, "ShutdownTimeout"},
	}
	for _, tt := range tests {
		if err := tt.make(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want the field %s named", tt.name, err, tt.want)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		want bool
	}{
		{nil, false},
		{io.EOF, false},
		{context.DeadlineExceeded, false},
		{redis.Nil, false},
		{redisError("OOM command not allowed"), true},
		{redisError("MISCONF Redis is configured to save RDB snapshots"), true},
		{redisError("NOAUTH Authentication required."), true},
		{redisError("LOADING Redis is loading"), false},
		{redisError("READONLY You can't write against a read only replica."), false},
		{errors.Join(redisError("CLUSTERDOWN The cluster is down")), false},
	}
	for _, tt := range tests {
		if got := refused(tt.err); got != tt.want {
			t.Errorf("refused(%v) = %t; want %t", tt.err, got, tt.want)
		}
	}
}
