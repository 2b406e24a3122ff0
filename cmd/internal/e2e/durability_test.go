package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// reluctant is a receiver that refuses every fifth request, so that there are
// retries, and knows what it has taken.
type reluctant struct {
	mu    sync.Mutex
	taken map[string]bool // by webhook-id
}

func (r *reluctant) answer(n int, got *received, w http.ResponseWriter) {
	if n%5 == 0 {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.mu.Lock()
	r.taken[got.id()] = true
	r.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// missing counts the events that it has not taken.
func (r *reluctant) missing(events []string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, id := range events {
		if !r.taken[id] {
			n++
		}
	}
	return n
}

func (f *flow) soFar() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.accepted)
}

// TestFsyncDurability: with fsync nothing that was accepted is lost when Redis is
// killed, and what a Redis cannot keep is not accepted.
func TestFsyncDurability(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_DURABILITY": "fsync"}, redistest.WithAppendOnly("always"))
	acme := s.client("acme", "admin,publish")
	taker := reluctant{taken: make(map[string]bool)}
	r := newReceiver(t, s.ca, taker.answer)
	acme.subscribe(r.url(), "lead.created")
	events := acme.startFlow(8, "lead.created")
	for kill := range 2 {
		s.eventually("events are accepted", func() bool { return events.soFar() >= 50*(kill+1) })
		s.redis.Kill()
		s.redis.Restart()
		s.awaitReady("gateway")
		s.awaitReady("sender")
	}
	events.halt()
	s.eventually("every accepted event is delivered", func() bool { return taker.missing(events.accepted) == 0 })
	t.Logf("%d events accepted over two kills, %d refused or not confirmed, %d requests", len(events.accepted), len(events.failures), len(r.all()))

	if err := s.redis.Client(t).ConfigSet(t.Context(), "appendfsync", "everysec").Err(); err != nil {
		t.Fatal(err)
	}
	s.eventually("the gateway is not ready", func() bool { return s.status("gateway", "/readyz") == http.StatusServiceUnavailable })
	s.eventually("publishing is refused", func() bool {
		answer, err := acme.try("POST", "/api/v1/events", `{"type":"lead.created","data":{}}`)
		if err != nil {
			t.Fatal(err)
		}
		return answer.status == http.StatusServiceUnavailable
	})
	s.gateway.await("that it says why", func(line string) bool { return strings.Contains(line, "appendfsync") })
}

// relay is a TCP proxy before Redis whose target can be moved, as the address of a
// master is moved in a failover.
type relay struct {
	listener net.Listener
	target   atomic.Pointer[string]
	wg       sync.WaitGroup
}

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &relay{listener: listener}
	p.target.Store(&target)
	ctx, end := context.WithCancel(context.Background())
	p.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.pass(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		end()
		_ = listener.Close()
		p.wg.Wait()
	})
	return p
}

// pass passes bytes on, until either side or ctx ends.
func (p *relay) pass(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	server, err := net.Dial("tcp", *p.target.Load())
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = conn.Close(), server.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	})
	_, _ = io.Copy(conn, server)
	_ = conn.Close()
	wg.Wait()
}

// startReplica starts a Redis that follows another one.
func startReplica(t *testing.T, of *redistest.Server) *redistest.Server {
	t.Helper()
	host, port, err := net.SplitHostPort(of.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return redistest.Start(t, redistest.WithConfig("replicaof", host, port), redistest.WithConfig("repl-diskless-sync-delay", "0"))
}

// TestReplicaDurability: with replica nothing that was accepted is lost when Redis
// and its machine are gone and the replica takes over, though it had fallen
// behind; without a replica nothing is accepted.
func TestReplicaDurability(t *testing.T) {
	t.Parallel()
	s := prepareSystem(t, map[string]string{"SEALPOST_DURABILITY": "replica"}, redistest.WithConfig("repl-diskless-sync-delay", "0"))
	front := newRelay(t, s.redis.Addr())
	s.env["SEALPOST_REDIS_URL"] = "redis://" + front.listener.Addr().String() + "/0"
	replica := startReplica(t, s.redis)
	s.startGateway()
	s.startSender()
	acme := s.client("acme", "admin,publish")
	taker := reluctant{taken: make(map[string]bool)}
	r := newReceiver(t, s.ca, taker.answer)
	acme.subscribe(r.url(), "lead.created")

	events := acme.startFlow(8, "lead.created")
	s.eventually("events are accepted", func() bool { return events.soFar() >= 200 })
	replica.Pause()
	acme.refused(t, `{"type":"lead.created","data":"no replica has it"}`, "key")
	s.redis.Kill()
	replica.Resume()
	if err := replica.Client(t).ReplicaOf(t.Context(), "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	s.redis = replica
	address := replica.Addr()
	front.target.Store(&address)
	before := events.soFar()
	startReplica(t, replica)
	s.awaitReady("gateway")
	s.awaitReady("sender")
	s.eventually("events are accepted again", func() bool { return events.soFar() >= before+100 })
	events.halt()
	s.eventually("every accepted event is delivered", func() bool { return taker.missing(events.accepted) == 0 })
	t.Logf("%d events accepted, %d of them before the failover, %d refused or not confirmed, %d requests",
		len(events.accepted), before, len(events.failures), len(r.all()))
}
