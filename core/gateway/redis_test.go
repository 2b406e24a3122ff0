package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
	"github.com/sealpost/sealpost/redisstore"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// memoryQueue keeps deliveries; the real queue has tests of its own.
type memoryQueue struct {
	mu         sync.Mutex
	deliveries []core.Delivery
}

func (q *memoryQueue) EnqueueKeyed(_ context.Context, ds []core.Delivery, _ []core.Keyed) []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deliveries = append(q.deliveries, ds...)
	return nil
}

// on returns "event endpoint" of all deliveries, sorted.
func (q *memoryQueue) on() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []string
	for _, d := range q.deliveries {
		out = append(out, d.Event.ID+" "+d.Endpoint)
	}
	slices.Sort(out)
	return out
}

// setupRedis starts a server on a real store and a real publisher, with a quota if
// one is given.
func setupRedis(t *testing.T, quotas ...core.Quota) (*fixture, *redistest.Server, *memoryQueue) {
	t.Helper()
	var quota core.Quota
	for _, q := range quotas {
		quota = q
	}
	redis := redistest.Start(t)
	at, err := redisstore.ParseURL(redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redisstore.Open(at, redisstore.ProfileStore)
	t.Cleanup(func() { client.Close() })
	store, err := redisstore.New(redisstore.Options{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	key := core.NewAPIKey()
	hash, _ := core.HashAPIKey(key)
	err = store.CreateAPIKey(t.Context(), hash, core.APIKey{
		ID: core.NewKeyID(time.Now()), Organization: "acme", Scopes: []core.Scope{core.ScopeAdmin, core.ScopePublish}, CreatedAt: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	queue := &memoryQueue{}
	publisher, err := publish.New(publish.Options{Store: store, Queue: queue, Backlog: store, Accepting: store.Accepting, Quota: quota})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- publisher.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("publisher: %v", err)
		}
	})
	f := setup(t, func(o *Options) { o.Store, o.Keys, o.Publisher, o.Quota = store, store, publisher, quota })
	f.key = key
	return f, redis, queue
}

func (f *fixture) subscribe(events ...string) createdJSON {
	f.t.Helper()
	body := fmt.Sprintf(`{"url":"https://a.example.com/","events":["%s"]}`, strings.Join(events, `","`))
	var c createdJSON
	f.call("POST", "/api/v1/webhooks", body).want(201, "").decode(&c)
	return c
}

// Every change of the endpoints holds for the very next event.
func TestOnRedisChangesHoldAtOnce(t *testing.T) {
	t.Parallel()
	f, _, queue := setupRedis(t)
	send := func(id string, deliveries int) {
		t.Helper()
		a := f.call("POST", "/api/v1/events", fmt.Sprintf(`{"id":"%s","type":"lead.created","data":{}}`, id)).want(202, "")
		if want := fmt.Sprintf(`{"id":"%s","deliveries":%d}`, id, deliveries); a.body != want {
			t.Errorf("answer %s, want %s", a.body, want)
		}
	}
	send("1", 0)
	a := f.subscribe("lead.created", "lead.updated")
	send("2", 1)
	b := f.subscribe("lead.created")
	f.subscribe("call.received")
	send("3", 2)
	item := "/api/v1/webhooks/" + a.ID
	f.call("PATCH", item, `{"events":["call.received"]}`).want(200, "")
	send("4", 1)
	f.call("PATCH", item, `{"events":["lead.created"]}`).want(200, "")
	send("5", 2)
	f.call("PATCH", item, `{"enabled":false,"on_disable":"drop"}`).want(200, "")
	send("6", 1)
	f.call("DELETE", "/api/v1/webhooks/"+b.ID, "").want(200, "")
	send("7", 0)
	want := []string{"2 " + a.ID, "3 " + a.ID, "3 " + b.ID, "4 " + b.ID, "5 " + a.ID, "5 " + b.ID, "6 " + b.ID}
	slices.Sort(want)
	if diff := cmp.Diff(want, queue.on()); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

func TestOnRedisIdempotency(t *testing.T) {
	t.Parallel()
	f, _, queue := setupRedis(t)
	f.subscribe("lead.created")
	const event, other = `{"type":"lead.created","data":1}`, `{"type":"lead.created","data":2}`
	first := f.call("POST", "/api/v1/events", event, "Idempotency-Key", "k").want(202, "")
	if again := f.call("POST", "/api/v1/events", event, "Idempotency-Key", "k").want(202, ""); again.body != first.body {
		t.Errorf("answered %s, first %s", again.body, first.body)
	}
	f.call("POST", "/api/v1/events", other, "Idempotency-Key", "k").want(422, core.CodeIdempotencyMismatch)
	f.call("POST", "/api/v1/events/batch", `[`+event+`]`, "Idempotency-Key", "k").want(422, core.CodeIdempotencyMismatch)
	f.call("POST", "/api/v1/events/batch", event, "Idempotency-Key", "k", "Content-Type", "application/x-ndjson").want(422, core.CodeIdempotencyMismatch)

	const withID = `{"id":"mine","type":"lead.created","data":1}`
	first = f.call("POST", "/api/v1/events", withID).want(202, "")
	batch := f.call("POST", "/api/v1/events/batch", `[`+withID+`,{"id":"mine","type":"lead.created","data":2},`+event+`,7]`).want(202, "")
	if !strings.HasPrefix(batch.body, `{"data":[`+first.body+`,{"error":{"code":"idempotency_mismatch"`) ||
		!strings.Contains(batch.body, `_2","deliveries":1},{"error":{"code":"invalid"`) {
		t.Errorf("batch %s", batch.body)
	}
	keyed := f.call("POST", "/api/v1/events/batch", `[`+event+`,`+event+`]`, "Idempotency-Key", "b").want(202, "")
	if again := f.call("POST", "/api/v1/events/batch", `[`+event+`,`+event+`]`, "Idempotency-Key", "b").want(202, ""); again.body != keyed.body {
		t.Errorf("answered %s, first %s", again.body, keyed.body)
	}
	if n := len(queue.on()); n != 5 {
		t.Errorf("%d deliveries, want 5", n)
	}
}

// Many at once: nothing is lost, doubled or mixed up.
func TestOnRedisConcurrentRequests(t *testing.T) {
	t.Parallel()
	f, _, queue := setupRedis(t)
	e := f.subscribe("lead.created")
	const clients, events = 16, 25
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range events {
				id := fmt.Sprintf("%d-%d", c, i)
				a := f.call("POST", "/api/v1/events", fmt.Sprintf(`{"id":"%s","type":"lead.created","data":"%s"}`, id, id))
				if want := fmt.Sprintf(`{"id":"%s","deliveries":1}`, id); a.StatusCode != 202 || a.body != want {
					t.Errorf("answer %d %s, want %s", a.StatusCode, a.body, want)
				}
			}
		})
	}
	wg.Wait()
	if len(queue.deliveries) != clients*events {
		t.Fatalf("%d deliveries, want %d", len(queue.deliveries), clients*events)
	}
	for _, d := range queue.deliveries {
		if !strings.HasSuffix(string(d.Event.Body), `,"data":"`+d.Event.ID+`"}`) || d.Endpoint != e.ID {
			t.Fatalf("event %s has the body %s", d.Event.ID, d.Event.Body)
		}
	}
}

// Redis gone or frozen: 503 with Retry-After within two seconds, with a quota too,
// and all is well when it is back.
func TestOnRedisOutage(t *testing.T) {
	t.Parallel()
	f, redis, _ := setupRedis(t, core.Quota{Rate: 1000, Burst: 1000})
	e := f.subscribe("lead.created")
	const event = `{"type":"lead.created","data":1}`
	requests := [][3]string{
		{"POST", "/api/v1/events", event},
		{"POST", "/api/v1/events/batch", `[` + event + `]`},
		{"GET", "/api/v1/webhooks", ""},
		{"PATCH", "/api/v1/webhooks/" + e.ID, `{"enabled":false}`},
	}
	outage := func(what string) {
		t.Helper()
		var wg sync.WaitGroup
		for range 5 {
			for _, r := range requests {
				wg.Go(func() {
					began := time.Now()
					a := f.call(r[0], r[1], r[2])
					// The budgets add up to 1.9 s; the rest is for a busy machine.
					if took := time.Since(began); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" || took > 4*time.Second {
						t.Errorf("%s: %s %s: %d %s after %v", what, r[0], r[1], a.StatusCode, a.body, took)
					}
				})
			}
		}
		wg.Wait()
	}
	recovered := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			if a := f.call("POST", "/api/v1/events", event); a.StatusCode == 202 {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: not recovered: %d %s", what, a.StatusCode, a.body)
			}
		}
	}
	redis.Pause()
	outage("frozen")
	redis.Resume()
	recovered("frozen")
	redis.Kill()
	outage("gone")
}

// What is not sent at once waits in the backlog, in the order of acceptance, and
// the endpoint shows how much it is.
func TestOnRedisBacklog(t *testing.T) {
	t.Parallel()
	f, _, queue := setupRedis(t)
	subscribe := func(settings string) string {
		var c createdJSON
		f.call("POST", "/api/v1/webhooks", `{"url":"https://a.example.com/","events":["lead.created"]`+settings+`}`).want(201, "").decode(&c)
		return c.ID
	}
	stands := func(id string) (e struct {
		State   core.State
		Backlog int
	}) {
		f.call("GET", "/api/v1/webhooks/"+id, "").want(200, "").decode(&e)
		return e
	}
	ordinary, fifo, held, dropped := subscribe(""), subscribe(`,"ordering":"fifo"`), subscribe(""), subscribe(`,"on_disable":"drop"`)
	for _, id := range []string{held, dropped} {
		f.call("PATCH", "/api/v1/webhooks/"+id, `{"enabled":false}`).want(200, "")
	}
	var want []string
	for i := range 3 {
		id := fmt.Sprint("first", i)
		want = append(want, id)
		a := f.call("POST", "/api/v1/events", `{"id":"`+id+`","type":"lead.created","data":{}}`).want(202, "")
		if a.body != `{"id":"`+id+`","deliveries":3}` {
			t.Errorf("answer %s", a.body)
		}
	}
	var batch []string
	for i := range 300 {
		id := fmt.Sprint("second", i)
		want = append(want, id)
		batch = append(batch, `{"id":"`+id+`","type":"lead.created","data":{}}`)
	}
	f.call("POST", "/api/v1/events/batch", "["+strings.Join(batch, ",")+"]").want(202, "")

	if n := len(queue.on()); n != len(want) {
		t.Errorf("%d deliveries are in the queue, want %d of %s", n, len(want), ordinary)
	}
	for _, tt := range []struct {
		id      string
		state   core.State
		backlog int
	}{{ordinary, core.StateActive, 0}, {fifo, core.StateActive, 303}, {held, core.StateDisabled, 303}, {dropped, core.StateDisabled, 0}} {
		if got := stands(tt.id); got.State != tt.state || got.Backlog != tt.backlog {
			t.Errorf("an endpoint is %s with %d deliveries waiting, want %s and %d", got.State, got.Backlog, tt.state, tt.backlog)
		}
	}
	store := f.server.o.Store.(*redisstore.Store)
	var got []string
	waiting, err := store.Backlog(t.Context(), core.EndpointRef{Organization: "acme", ID: fifo}, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range waiting {
		got = append(got, w.Delivery.Event.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the order of the backlog (-want +got):\n%s", diff)
	}
}
