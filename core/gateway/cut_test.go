package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
	"github.com/sealpost/sealpost/core/publish"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// accepting is a gateway on the real queue and store, which reach Redis through a
// cutter.
type accepting struct {
	*fixture
	cutter *cutter
	direct *redis.Client // past the cutter
}

func setupAccepting(t *testing.T) *accepting {
	t.Helper()
	server := redistest.Start(t)
	a := &accepting{cutter: startCutter(t, server.Addr()), direct: server.Client(t)}
	at, err := redisstore.ParseURL("redis://" + a.cutter.addr() + "/0")
	if err != nil {
		t.Fatal(err)
	}
	open := func(p redisstore.Profile) redis.UniversalClient {
		client := redisstore.Open(at, p)
		t.Cleanup(func() { client.Close() })
		return client
	}
	quiet := slog.New(slog.DiscardHandler)
	store, err := redisstore.New(redisstore.Options{Client: open(redisstore.ProfileStore)})
	if err != nil {
		t.Fatal(err)
	}
	producer, err := queue.NewProducer(queue.ProducerOptions{
		Options: queue.Options{Client: open(redisstore.ProfilePublish), Logger: quiet}, Keeping: redisstore.Keeping{},
	})
	if err != nil {
		t.Fatal(err)
	}
	publisher, err := publish.New(publish.Options{Store: store, Queue: producer, Backlog: store, Logger: quiet, Budget: 300 * time.Millisecond})
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
	run(t, publisher.Run)
	a.fixture = setup(t, func(o *Options) { o.Store, o.Keys, o.Publisher = store, store, publisher })
	a.key = key
	return a
}

// run runs something until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// offer repeats a request until it is accepted, as a producer does, and returns the
// answer. Reservations that are left behind end between two tries.
func (a *accepting) offer(path, body string, headers ...string) string {
	a.t.Helper()
	for range 30 {
		switch got := a.call("POST", path, body, headers...); got.StatusCode {
		case 202:
			return got.body
		case 503, 409:
			if got.Header.Get("Retry-After") == "" {
				a.t.Errorf("%d without Retry-After", got.StatusCode)
			}
			a.cutter.restore()
			a.endLeases()
		default:
			a.t.Fatalf("%s: %d %s", path, got.StatusCode, got.body)
		}
	}
	a.t.Fatalf("%s: not accepted after 30 tries", path)
	return ""
}

// endLeases lets the time of all reservations pass.
func (a *accepting) endLeases() {
	a.t.Helper()
	keys, err := a.direct.Keys(a.t.Context(), "sp:{org:acme}:idem:*").Result()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, key := range keys {
		if err := a.direct.HSet(a.t.Context(), key, "until", 1000).Err(); err != nil {
			a.t.Fatal(err)
		}
	}
}

// deliveriesIn returns the event ids of an answer and how many deliveries it tells of
// each.
func deliveriesIn(t *testing.T, answer string) map[string]int {
	t.Helper()
	type item struct {
		ID         string
		Deliveries int
	}
	var one struct {
		item
		Data []item
	}
	if err := json.Unmarshal([]byte(answer), &one); err != nil {
		t.Fatal(err)
	}
	if one.ID != "" {
		one.Data = append(one.Data, one.item)
	}
	deliveries := make(map[string]int)
	for _, item := range one.Data {
		deliveries[item.ID] = item.Deliveries
	}
	return deliveries
}

// wantOnce fails unless each of the deliveries of these events, and nothing else, is
// stored once.
func (a *accepting) wantOnce(accepted map[string]int) {
	a.t.Helper()
	stored := make(map[string]int)
	again := 0
	for delivery, times := range a.stored() {
		id, _, _ := strings.Cut(delivery, " ")
		stored[id]++
		if times != 1 {
			again++
		}
	}
	if again > 0 {
		a.t.Errorf("%d deliveries are stored more than once", again)
	}
	if diff := cmp.Diff(accepted, stored); diff != "" {
		a.t.Errorf("deliveries of each event (-accepted +stored):\n%.2000s", diff)
	}
}

// stored returns how often each delivery, named by its event and its endpoint, stands
// in the queues, which it empties, and in the backlogs.
func (a *accepting) stored() map[string]int {
	a.t.Helper()
	times := make(map[string]int)
	var mu sync.Mutex
	name := func(d *core.Delivery) string { return d.Event.ID + " " + d.Endpoint }
	consumer, err := queue.NewConsumer(queue.ConsumerOptions{
		Options: queue.Options{Client: a.direct, Logger: slog.New(slog.DiscardHandler)},
		Handler: func(_ context.Context, b *core.Bundle) error {
			mu.Lock()
			defer mu.Unlock()
			for i := range b.Deliveries {
				times[name(&b.Deliveries[i])]++
			}
			return nil
		},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	run(a.t, consumer.Run)
	deadline := time.Now().Add(time.Minute)
	for a.waiting() > 0 {
		if time.Now().After(deadline) {
			a.t.Fatal("the queues are not empty after a minute")
		}
		time.Sleep(10 * time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	backlogs, err := a.direct.Keys(a.t.Context(), "sp:{drain-00}:backlog:*").Result()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, backlog := range backlogs {
		entries, err := a.direct.XRange(a.t.Context(), backlog, "-", "+").Result()
		if err != nil {
			a.t.Fatal(err)
		}
		for _, entry := range entries {
			raw, _ := entry.Values["d"].(string)
			ds, err := frame.Decode([]byte(raw))
			if err != nil {
				a.t.Fatal(err)
			}
			times[name(&ds[0])]++
		}
	}
	return times
}

// waiting returns how many tasks are in the queues.
func (a *accepting) waiting() int64 {
	a.t.Helper()
	var n int64
	for _, name := range a.direct.SMembers(a.t.Context(), "asynq:queues").Val() {
		for _, list := range []string{":pending", ":active"} {
			n += a.direct.LLen(a.t.Context(), "asynq:{"+name+"}"+list).Val()
		}
	}
	return n
}

// Wherever a connection to Redis breaks while a request is being accepted, and
// wherever Redis is lost, the producer that repeats the request gets a 202, and its
// events are stored once, however many scripts store them.
func TestCutsToRedis(t *testing.T) {
	t.Parallel()
	many, mixed := make([]string, 300), make([]string, 600)
	for i := range many {
		many[i] = `{"type":"call.qualified","data":1}`
	}
	for i := range mixed { // two of three go to a backlog, two of three to the queue
		mixed[i] = fmt.Sprintf(`{"type":"%s","data":1}`, []string{"call.qualified", "lead.created", "lead.updated"}[i%3])
	}
	for _, tt := range []struct {
		name  string
		path  string
		body  func(key string) string
		keyed bool // by a header
	}{
		{name: "header", path: "/api/v1/events", keyed: true,
			body: func(string) string { return `{"type":"call.qualified","data":1}` }},
		{name: "id", path: "/api/v1/events",
			body: func(key string) string { return fmt.Sprintf(`{"id":"%s","type":"call.qualified","data":1}`, key) }},
		{name: "blob", path: "/api/v1/events", keyed: true,
			body: func(string) string { return noise }},
		{name: "batch with header", path: "/api/v1/events/batch", keyed: true,
			body: func(string) string { return "[" + strings.Join(many[:3], ",") + "]" }},
		{name: "batch of ids", path: "/api/v1/events/batch", body: func(key string) string {
			return fmt.Sprintf(`[{"id":"%s-a","type":"call.qualified","data":1},{"id":"%s-b","type":"call.qualified","data":1}]`, key, key)
		}},
		{name: "several tasks", path: "/api/v1/events/batch", keyed: true,
			body: func(string) string { return "[" + strings.Join(many, ",") + "]" }},
		{name: "backlog", path: "/api/v1/events", keyed: true,
			body: func(string) string { return `{"type":"lead.created","data":1}` }},
		{name: "tasks and backlogs", path: "/api/v1/events/batch", keyed: true,
			body: func(string) string { return "[" + strings.Join(mixed, ",") + "]" }},
		{name: "queue and backlog of one event", path: "/api/v1/events",
			body: func(key string) string { return fmt.Sprintf(`{"id":"%s","type":"lead.updated","data":1}`, key) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := setupAccepting(t)
			a.subscribe("call.qualified")
			a.call("POST", "/api/v1/webhooks", `{"url":"https://b.example.com/","events":["lead.created","lead.updated"],"ordering":"fifo"}`).want(201, "")
			a.call("POST", "/api/v1/webhooks", `{"url":"https://c.example.com/","events":["lead.updated"]}`).want(201, "")
			accepted := make(map[string]int) // event id → deliveries
			cuts := 0
			for way, at := range []cut{
				{}, {half: true}, {replies: true}, {replies: true, half: true}, {lose: true}, {lose: true, replies: true},
			} {
				for fired := true; fired; at.after++ {
					key := fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(tt.name, " ", "-"), way, at.after)
					var headers []string
					if tt.keyed {
						headers = []string{"Idempotency-Key", key}
					}
					a.cutter.arm(at)
					answer := a.offer(tt.path, tt.body(key), headers...)
					if fired = a.cutter.disarm(); fired {
						cuts++
					}
					if again := a.offer(tt.path, tt.body(key), headers...); again != answer {
						t.Errorf("%+v: answered %s, then %s", at, answer, again)
					}
					maps.Copy(accepted, deliveriesIn(t, answer))
				}
			}
			a.wantOnce(accepted)
			if cuts < 20 {
				t.Errorf("%d cuts", cuts)
			}
			t.Logf("%d cuts, %d events", cuts, len(accepted))
		})
	}
}

// A producer that groups its events anew before it repeats them, each under its own
// key, loses none.
func TestCutsAndOtherBatches(t *testing.T) {
	t.Parallel()
	a := setupAccepting(t)
	a.call("POST", "/api/v1/webhooks", `{"url":"https://b.example.com/","events":["lead.created"],"ordering":"fifo"}`).want(201, "")
	accepted := make(map[string]int)
	event := func(id string) string { return fmt.Sprintf(`{"id":"%s","type":"lead.created","data":1}`, id) }
	for fired, n := true, 0; fired; n++ {
		key := fmt.Sprintf("k%d", n)
		a.cutter.arm(cut{replies: true, after: n, lose: true})
		a.call("POST", "/api/v1/events/batch", "["+event(key+"-a")+","+event(key+"-b")+"]")
		fired = a.cutter.disarm()
		a.endLeases()
		maps.Copy(accepted, deliveriesIn(t, a.offer("/api/v1/events/batch", "["+event(key+"-b")+","+event(key+"-c")+"]")))
		maps.Copy(accepted, deliveriesIn(t, a.offer("/api/v1/events", event(key+"-a"))))
	}
	a.wantOnce(accepted)
}

// noise is an event that is too large, and too random, to ride in its task.
var noise = func() string {
	var b strings.Builder
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		fmt.Fprintf(&b, "%08x", random.Uint32())
	}
	return `{"type":"call.qualified","data":"` + b.String() + `"}`
}()

// A producer whose connection breaks, in its request, before the answer or in it,
// repeats the request under its key, and there is one event.
func TestCutsToProducers(t *testing.T) {
	t.Parallel()
	a := setupAccepting(t)
	a.subscribe("call.qualified")
	const body = `{"type":"call.qualified","data":1}`
	accepted := make(map[string]int)
	for i, tt := range []struct {
		request float64 // how much of it passes
		answer  int64   // how many bytes of it, of about 200
	}{{0.2, 0}, {0.99, 0}, {1, 0}, {1, 1}, {1, 100}} {
		key := fmt.Sprint("key-", i)
		request := fmt.Sprintf("POST /api/v1/events HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s",
			a.key, key, len(body), body)
		conn, err := net.Dial("tcp", a.server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request[:int(tt.request*float64(len(request)))]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, conn, tt.answer); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
		for answer := ""; answer == ""; { // while the first is still being accepted: 409
			switch got := a.call("POST", "/api/v1/events", body, "Idempotency-Key", key); got.StatusCode {
			case 202:
				answer = got.body
			case 409:
				time.Sleep(10 * time.Millisecond)
			default:
				t.Fatalf("%d %s", got.StatusCode, got.body)
			}
			if answer != "" {
				maps.Copy(accepted, deliveriesIn(t, answer))
			}
		}
	}
	a.wantOnce(accepted)
}
