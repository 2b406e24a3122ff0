package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

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
		Options: queue.Options{Client: open(redisstore.ProfilePublish), Logger: quiet}, Finishing: redisstore.Finishing{},
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

// idsOf returns the event ids of an answer.
func idsOf(t *testing.T, answer string) []string {
	t.Helper()
	var one struct {
		ID   string
		Data []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(answer), &one); err != nil {
		t.Fatal(err)
	}
	if one.ID != "" {
		return []string{one.ID}
	}
	var ids []string
	for _, item := range one.Data {
		ids = append(ids, item.ID)
	}
	return ids
}

// stored returns how often each event stands in the queues, which it empties, and in
// the backlogs.
func (a *accepting) stored() map[string]int {
	a.t.Helper()
	times := make(map[string]int)
	var mu sync.Mutex
	consumer, err := queue.NewConsumer(queue.ConsumerOptions{
		Options: queue.Options{Client: a.direct, Logger: slog.New(slog.DiscardHandler)},
		Handler: func(_ context.Context, b *core.Bundle) error {
			mu.Lock()
			defer mu.Unlock()
			for i := range b.Deliveries {
				times[b.Deliveries[i].Event.ID]++
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
			times[ds[0].Event.ID]++
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
// events are stored once, and again only where more than one script stores them.
// Never are they lost.
func TestCutsToRedis(t *testing.T) {
	t.Parallel()
	many := make([]string, 300)
	for i := range many {
		many[i] = `{"type":"call.qualified","data":1}`
	}
	for _, tt := range []struct {
		name  string
		path  string
		body  func(key string) string
		keyed bool // by a header
		once  bool // each event is stored once, else once at least
	}{
		{name: "header", path: "/api/v1/events", keyed: true, once: true,
			body: func(string) string { return `{"type":"call.qualified","data":1}` }},
		{name: "id", path: "/api/v1/events", once: true,
			body: func(key string) string { return fmt.Sprintf(`{"id":"%s","type":"call.qualified","data":1}`, key) }},
		{name: "blob", path: "/api/v1/events", keyed: true, once: true,
			body: func(string) string { return noise }},
		{name: "batch with header", path: "/api/v1/events/batch", keyed: true, once: true,
			body: func(string) string { return "[" + strings.Join(many[:3], ",") + "]" }},
		{name: "batch of ids", path: "/api/v1/events/batch", once: true, body: func(key string) string {
			return fmt.Sprintf(`[{"id":"%s-a","type":"call.qualified","data":1},{"id":"%s-b","type":"call.qualified","data":1}]`, key, key)
		}},
		{name: "several tasks", path: "/api/v1/events/batch", keyed: true,
			body: func(string) string { return "[" + strings.Join(many, ",") + "]" }},
		{name: "backlog", path: "/api/v1/events", keyed: true,
			body: func(string) string { return `{"type":"lead.created","data":1}` }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := setupAccepting(t)
			a.subscribe("call.qualified")
			a.call("POST", "/api/v1/webhooks", `{"url":"https://b.example.com/","events":["lead.created"],"ordering":"fifo"}`).want(201, "")
			var accepted []string
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
					accepted = append(accepted, idsOf(t, answer)...)
				}
			}
			times := a.stored()
			again := 0
			for _, id := range accepted {
				switch n := times[id]; {
				case n == 0:
					t.Errorf("the event %s was accepted and is lost", id)
				case n > 1 && tt.once:
					t.Errorf("the event %s stands %d times, want once", id, n)
				case n > 1:
					again++
				}
			}
			if len(times) != len(accepted) || cuts < 20 {
				t.Errorf("%d events stored, %d accepted, after %d cuts", len(times), len(accepted), cuts)
			}
			t.Logf("%d cuts, %d events, %d of them again", cuts, len(accepted), again)
		})
	}
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
	var accepted []string
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
				accepted = append(accepted, idsOf(t, answer)...)
			}
		}
	}
	times := a.stored()
	for _, id := range accepted {
		if times[id] != 1 {
			t.Errorf("the event %s stands %d times, want once", id, times[id])
		}
	}
	if len(times) != len(accepted) {
		t.Errorf("%d events stored, %d accepted", len(times), len(accepted))
	}
}
