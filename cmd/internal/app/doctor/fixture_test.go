package doctor

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/core/sign"
	"github.com/sealpost/sealpost/redisstore"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// patience bounds every wait of a test. It is only reached by a failing one.
const patience = 60 * time.Second

// fixture is a Sealpost in good health on a Redis of its own: what its checks
// complain about is what the test broke.
type fixture struct {
	t      *testing.T
	server *redistest.Server
	redis  *redis.Client // to break things behind the store
	o      Options
}

// healthy are the directives of a Redis without fault; later ones win.
func healthy() []redistest.Option {
	return []redistest.Option{
		redistest.WithAppendOnly("everysec"), redistest.WithConfig("maxmemory", "256mb"),
		redistest.WithConfig("rdbcompression", "no"), redistest.WithConfig("auto-aof-rewrite-min-size", "512mb"),
	}
}

func setup(t *testing.T, options ...redistest.Option) *fixture {
	t.Helper()
	f := &fixture{t: t, server: redistest.Start(t, append(healthy(), options...)...)}
	f.redis = f.server.Client(t)
	f.o = Options{Keyring: newKeyring(t, "k1"), AdminListen: "127.0.0.1:9090"}
	f.connect(f.server.URL())
	f.addKey(core.ScopePublish)
	return f
}

// connect makes the doctor reach Redis at a URL.
func (f *fixture) connect(url string) {
	f.t.Helper()
	at, err := redisstore.ParseURL(url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.o.Addresses, f.o.Password, f.o.TLS = at.Addrs, at.Password != "", at.TLSConfig != nil
	f.o.Client = redisstore.Open(at, redisstore.ProfileStore)
	f.t.Cleanup(func() { f.o.Client.Close() })
	f.o.Store = f.store(f.o.Client, nil)
	f.o.Queues, err = queue.NewCollector(f.queueOptions())
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) store(client redis.UniversalClient, now func() time.Time) *redisstore.Store {
	f.t.Helper()
	store, err := redisstore.New(redisstore.Options{Client: client, Now: now})
	if err != nil {
		f.t.Fatal(err)
	}
	return store
}

func (f *fixture) queueOptions() queue.Options {
	return queue.Options{Client: f.o.Client, Logger: slog.New(slog.DiscardHandler)}
}

func newKeyring(t *testing.T, kid string) *sign.Keyring {
	t.Helper()
	var raw [32]byte
	rand.Read(raw[:])
	ring, err := sign.ParseKeyring(kid + ":" + base64.StdEncoding.EncodeToString(raw[:]))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// addKey stores an API key of acme.
func (f *fixture) addKey(scopes ...core.Scope) {
	f.t.Helper()
	now := time.Now().UTC().Truncate(time.Millisecond)
	hash, _ := core.HashAPIKey(core.NewAPIKey())
	key := core.APIKey{ID: core.NewKeyID(now), Organization: "acme", Scopes: scopes, CreatedAt: now}
	if err := f.o.Store.CreateAPIKey(f.t.Context(), hash, key); err != nil {
		f.t.Fatal(err)
	}
}

// addEndpoint stores an endpoint of acme whose secret a keyring makes.
func (f *fixture) addEndpoint(ring *sign.Keyring) {
	f.t.Helper()
	now := time.Now().UTC().Truncate(time.Millisecond)
	e := core.Endpoint{ID: core.NewEndpointID(), Organization: "acme", URL: "https://a.example.com/", EventTypes: []string{"call.received"}, Enabled: true, CreatedAt: now}
	_, secret := ring.NewSecret(e.Ref(), 1, now)
	e.Secrets = []core.Secret{secret}
	if err := f.o.Store.CreateEndpoint(f.t.Context(), &e, 100); err != nil {
		f.t.Fatal(err)
	}
}

// process is an announcement as gateway and sender make it.
func (f *fixture) process(role string, pid int) redisstore.Process {
	return redisstore.Process{
		ID: core.NewToken(), Role: role, Version: core.Version, Host: "host", PID: pid, StartedAt: time.Now(), AdminListen: "127.0.0.1:9090",
		Shards: queue.DefaultShards, MasterKeys: f.o.Keyring.Fingerprints(), Settings: map[string]string{"SEALPOST_ALLOW_HTTP": "false", "SEALPOST_ALLOW_NETS": ""},
	}
}

// announce makes a process known until the test ends. ahead is how far its clock
// is ahead of the true one.
func (f *fixture) announce(p redisstore.Process, ahead time.Duration) {
	f.t.Helper()
	store := f.store(f.redis, func() time.Time { return time.Now().Add(ahead) })
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = store.Announce(ctx, p) }) // returns nil
	f.t.Cleanup(wg.Wait)
	f.t.Cleanup(stop)
	f.until("the announcement of "+p.Role, func() bool { return f.redis.HExists(context.Background(), "sp:processes", p.ID).Val() })
}

// consume runs what takes tasks, as a sender does.
func (f *fixture) consume() {
	f.t.Helper()
	consumer, err := queue.NewConsumer(queue.ConsumerOptions{
		Options: f.queueOptions(), Handler: func(context.Context, *core.Bundle) error { return nil }, ShutdownTimeout: time.Second,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = consumer.Run(ctx) })
	f.t.Cleanup(wg.Wait)
	f.t.Cleanup(stop)
	f.until("all heartbeats", func() bool {
		senders, err := f.o.Queues.Senders()
		return err == nil && len(senders) == 1 && len(senders[0].Queues) == queue.DefaultShards+2
	})
}

// enqueue stores n tasks whose deliveries lie in bundles of their own.
func (f *fixture) enqueue(n int) {
	f.t.Helper()
	producer, err := queue.NewProducer(queue.ProducerOptions{Options: f.queueOptions()})
	if err != nil {
		f.t.Fatal(err)
	}
	e := &core.Event{ID: "evt_1", Type: "call.received", Body: make([]byte, 4<<10), AcceptedAt: time.Now()}
	for range n {
		rand.Read(e.Body) // does not compress, so that it does not fit a task
		d := core.Delivery{ID: core.NewDeliveryID(time.Now()), Organization: "acme", Endpoint: core.NewEndpointID(), Event: e}
		if errs := producer.Enqueue(f.t.Context(), []core.Delivery{d}); errs != nil {
			f.t.Fatal(errs)
		}
	}
}

// keys returns the keys of a pattern; there has to be one.
func (f *fixture) keys(pattern string) []string {
	f.t.Helper()
	keys, err := f.redis.Keys(f.t.Context(), pattern).Result()
	if err != nil || len(keys) == 0 {
		f.t.Fatalf("keys %s: %v, %v", pattern, keys, err)
	}
	return keys
}

// take makes a waiting task a running one and returns its queue's prefix and its
// id.
func (f *fixture) take() (prefix, id string) {
	f.t.Helper()
	f.enqueue(1)
	pending := f.keys("asynq:*:pending")[0]
	prefix = strings.TrimSuffix(pending, "pending")
	id = f.redis.LMove(f.t.Context(), pending, prefix+"active", "RIGHT", "LEFT").Val()
	return prefix, id
}

func (f *fixture) set(directive, value string) {
	f.t.Helper()
	if err := f.redis.ConfigSet(f.t.Context(), directive, value).Err(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) until(what string, ok func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not within %v", what, patience)
		}
		<-tick.C
	}
}

// slow returns the address of a proxy that keeps every answer of Redis back for
// a while.
func (f *fixture) slow(by time.Duration) string {
	f.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", f.server.Addr())
			if err != nil {
				client.Close()
				return
			}
			wg.Go(func() { pump(client, server, 0) })
			wg.Go(func() { pump(server, client, by) })
		}
	})
	f.t.Cleanup(func() {
		listener.Close()
		f.o.Client.Close() // ends the pumps
		wg.Wait()
	})
	return listener.Addr().String()
}

func pump(from, to net.Conn, by time.Duration) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		time.Sleep(by)
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// server returns a Redis whose INFO says the given; its configuration is hidden.
func server(info ...string) *redisstore.Server {
	v := &redisstore.Server{Info: make(map[string]string)}
	for i := 0; i+1 < len(info); i += 2 {
		v.Info[info[i]] = info[i+1]
	}
	return v
}
