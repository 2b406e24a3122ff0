package queue

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
	"github.com/sealpost/sealpost/core/leaktest"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// patience bounds every wait of a test. It is only reached by a failing one.
const patience = 60 * time.Second

var shared redistest.Shared

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m, shared.Stop)) }

// fixture is a database of its own with what a test puts on top of it.
type fixture struct {
	t        *testing.T
	client   redis.UniversalClient
	registry *prometheus.Registry
	log      *lockedBuffer
}

func setup(t *testing.T) *fixture {
	t.Helper()
	return setupWith(t, shared.Database(t).Client(t))
}

func setupWith(t *testing.T, client redis.UniversalClient) *fixture {
	t.Helper()
	return &fixture{t: t, client: client, registry: prometheus.NewPedanticRegistry(), log: &lockedBuffer{}}
}

// sibling returns another client of the same database.
func (f *fixture) sibling() *redis.Client {
	f.t.Helper()
	o := f.client.(*redis.Client).Options()
	client := redis.NewClient(&redis.Options{Network: o.Network, Addr: o.Addr, DB: o.DB, DisableIdentity: true, MaxRetries: -1})
	f.t.Cleanup(func() { _ = client.Close() })
	return client
}

// options are those of a single shard, so that tests know the queue.
func (f *fixture) options() Options {
	return Options{
		Client: f.client, Shards: 1, Registerer: f.registry,
		Logger: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

func (f *fixture) producer() *Producer {
	f.t.Helper()
	return f.producerOn(f.client)
}

func (f *fixture) producerOn(client redis.UniversalClient) *Producer {
	f.t.Helper()
	o := f.options()
	o.Client = client
	p, err := NewProducer(ProducerOptions{Options: o})
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// consume runs a consumer until the returned function is called or the test
// ends. The function returns what Run returned.
func (f *fixture) consume(handler Handler, change ...func(*ConsumerOptions)) (stop func() error) {
	f.t.Helper()
	_, stop = f.consumeWith(handler, change...)
	return stop
}

func (f *fixture) consumeWith(handler Handler, change ...func(*ConsumerOptions)) (*Consumer, func() error) {
	f.t.Helper()
	o := ConsumerOptions{Options: f.options(), Handler: handler}
	for _, c := range change {
		c(&o)
	}
	c, err := NewConsumer(o)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	f.t.Cleanup(func() { _ = stop() })
	return c, stop
}

// settle does what redisstore does with a mark.
func (f *fixture) settle(m core.Mark, indexes ...int) {
	f.t.Helper()
	ctx := context.Background()
	pipe := f.client.Pipeline()
	if len(indexes) == m.Size {
		pipe.Set(ctx, m.DoneKey, bytes.Repeat([]byte{0xff}, (m.Size+7)/8), m.TTL)
		if m.BlobKey != "" {
			pipe.Unlink(ctx, m.BlobKey)
		}
	} else {
		for _, i := range indexes {
			pipe.SetBit(ctx, m.DoneKey, int64(i), 1)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		f.t.Errorf("settle: %v", err)
	}
}

func (f *fixture) settleAll(m core.Mark) {
	f.t.Helper()
	indexes := make([]int, m.Size)
	for i := range indexes {
		indexes[i] = i
	}
	f.settle(m, indexes...)
}

// stats returns what stands in the deliver queue and in the retry queue.
func (f *fixture) stats() (deliver, retry QueueStats) {
	f.t.Helper()
	all := f.allStats()
	return all[0], all[1]
}

// allStats returns what stands in the deliver, the retry and the bulk queue.
func (f *fixture) allStats() []QueueStats {
	f.t.Helper()
	o := f.options()
	o.Now = time.Now
	v, err := readOverview(context.Background(), &o)
	if err != nil {
		f.t.Fatal(err)
	}
	stats := v.queues
	for i := range stats {
		stats[i].OldestPending, stats[i].Overdue, stats[i].LeaseExpired = 0, 0, 0
	}
	return stats
}

// empty fails unless nothing is left in any queue, no bundle either.
func (f *fixture) empty() {
	f.t.Helper()
	for _, s := range f.allStats() {
		if diff := cmp.Diff(QueueStats{Queue: s.Queue}, s); diff != "" {
			f.t.Errorf("queue %s is not empty (-want +got):\n%s", s.Queue, diff)
		}
	}
	keys, err := f.client.Keys(context.Background(), "sp:*:bundle:*").Result()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, key := range keys {
		if !bytes.HasSuffix([]byte(key), []byte(":done")) {
			f.t.Errorf("blob %s is left over", key)
		}
	}
}

// held reports whether the polls of all queues wait for their bells.
func (f *fixture) held() bool {
	f.t.Helper()
	return f.blocked() == "3"
}

// blocked returns how many clients of the server wait for a bell.
func (f *fixture) blocked() string {
	return f.client.InfoMap(context.Background(), "clients").Item("Clients", "blocked_clients")
}

// hurry makes the tasks that were put back into a queue run now.
func (f *fixture) hurry(queue string) {
	f.t.Helper()
	ctx := context.Background()
	for _, id := range f.client.ZRange(ctx, asynqKey(queue, retrySuffix), 0, -1).Val() {
		pipe := f.client.TxPipeline()
		pipe.ZRem(ctx, asynqKey(queue, retrySuffix), id)
		pipe.HSet(ctx, taskKeyPrefix(queue)+id, "state", "pending")
		pipe.LPush(ctx, asynqKey(queue, pendingSuffix), id)
		ring(ctx, pipe, bellKey(queue), 1)
		if _, err := pipe.Exec(ctx); err != nil {
			f.t.Fatal(err)
		}
	}
}

// counter returns the value of a metric, of one label value if there are any.
func (f *fixture) counter(name string, label ...string) float64 {
	f.t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if len(label) == 0 || m.GetLabel()[0].GetValue() == label[0] {
				return m.GetCounter().GetValue()
			}
		}
	}
	f.t.Fatalf("no metric %s%v", name, label)
	return 0
}

// histogram returns how many values a histogram without labels has, and their sum.
func (f *fixture) histogram(name string) (count uint64, sum float64) {
	f.t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			h := family.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum()
		}
	}
	f.t.Fatalf("no metric %s", name)
	return 0, 0
}

// until polls a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		<-ticker.C
	}
}

// receive waits for a value.
func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatalf("%s: not within %v", what, patience)
		panic("unreachable")
	}
}

// event returns an event whose body has size bytes.
func event(id string, size int) *core.Event {
	body := []byte(fmt.Sprintf(`{"type":"call.received","timestamp":"2026-11-24T07:00:00.000Z","data":{"id":%q,"n":1.0}}`, id))
	for i := len(body); i < size; i++ {
		body = append(body, "0123456789abcdef"[i*7%16])
	}
	return &core.Event{ID: id, Type: "call.received", Body: body, AcceptedAt: time.UnixMilli(1_795_503_600_123).UTC()}
}

// tooLarge returns an event that no bundle can hold.
func tooLarge() *core.Event {
	return &core.Event{ID: "evt_large", Type: "call.received", Body: make([]byte, frame.MaxBody)}
}

// fanOut returns n deliveries of an event.
func fanOut(e *core.Event, n int) []core.Delivery {
	ds := make([]core.Delivery, n)
	for i := range ds {
		ds[i] = core.Delivery{
			ID: core.NewDeliveryID(e.AcceptedAt), Organization: "acme", Endpoint: core.NewEndpointID(), Event: e,
		}
	}
	return ds
}

// lockedBuffer collects log lines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// lint checks names and help texts of all registered metrics.
func lint(t *testing.T, g prometheus.Gatherer) {
	t.Helper()
	problems, err := testutil.GatherAndLint(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
