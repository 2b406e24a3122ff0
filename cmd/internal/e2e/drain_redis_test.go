package e2e

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// TestRedisRestartKeepsBacklogs: a backlog that waits is there when Redis comes back
// with all that is known of its endpoint, and one that is being worked off goes on.
func TestRedisRestartKeepsBacklogs(t *testing.T) {
	t.Parallel()
	s := newSystem(t, drainSlots, redistest.WithAppendOnly("always"))
	acme := s.client("acme", "admin,publish")
	var healed atomic.Bool
	failing := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
		if healed.Load() {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	draining := newReceiver(t, s.ca, leisurely)
	waits, drains := acme.subscribe(failing.url(), "call.received"), acme.subscribe(draining.url(), "lead.created")
	waiting := acme.fail(waits.ID, waitingEvents, "call.received")
	flowing, release := acme.gather(drains.ID, drainingEvents, "lead.created")
	release()
	draining.await(50)

	s.redis.Kill()
	s.eventually("the sender notices", func() bool { return s.status("sender", "/readyz") == http.StatusServiceUnavailable })
	before := len(draining.all())
	s.redis.Restart()
	s.awaitReady("gateway")
	s.awaitReady("sender")
	if before >= drainingEvents {
		t.Fatalf("all %d requests were out when Redis was killed", before)
	}
	if st := acme.stand(waits.ID); st.State != "failing" || st.Backlog != waitingEvents {
		t.Errorf("after the restart the failing endpoint stands so: %+v, want failing with %d that wait", st, waitingEvents)
	}
	healed.Store(true)
	failed := len(failing.all())
	s.awaitSettled()
	checkDelivered(t, draining.all(), flowing, perEndpoint(16)+unsettled)
	checkDelivered(t, failing.all()[failed:], waiting, perEndpoint(16)+unsettled)
	acme.checkStand(waits.ID)
	acme.checkStand(drains.ID)
}

// fill makes Redis refuse whatever needs memory, until room is called.
func (s *system) fill() (room func()) {
	s.t.Helper()
	client := s.redis.Client(s.t)
	limit := func(bytes string) {
		s.t.Helper()
		if err := client.ConfigSet(context.Background(), "maxmemory", bytes).Err(); err != nil {
			s.t.Fatal(err)
		}
	}
	limit("1")
	return func() { limit("0") }
}

// TestRedisFullWhileParking: what cannot go to its backlog because Redis is full is
// kept until it can.
func TestRedisFullWhileParking(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_CONCURRENCY": "16", "SEALPOST_DELIVERY_TIMEOUT": "60s"})
	acme := s.client("acme", "admin,publish")
	held := newGate()
	var healed atomic.Bool
	r := newReceiver(t, s.ca, func(_ int, _ *received, w http.ResponseWriter) {
		if healed.Load() {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		held.wait()
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	t.Cleanup(held.release)
	e := acme.subscribe(r.url(), "lead.created")
	ids := acme.publishMany(waitingEvents, "lead.created")
	r.await(perEndpoint(16))

	room := s.fill()
	held.release()
	s.eventually("results cannot be stored", func() bool { return s.metric("sender", "sealpost_sender_settle_repeats_total") >= 2 })
	room()
	acme.awaitStand(e.ID, "everything waits for the failing endpoint", func(st stand) bool {
		return st.State == "failing" && st.Backlog == waitingEvents
	})
	healed.Store(true)
	failed := len(r.all())
	s.awaitSettled()
	checkReceived(t, r.all()[failed:], ids)
	acme.checkStand(e.ID)
}

// TestRedisFullWhileDraining: a backlog is worked off although Redis is full: that
// is what makes room.
func TestRedisFullWhileDraining(t *testing.T) {
	t.Parallel()
	s := newSystem(t, drainSlots)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, leisurely)
	e := acme.subscribe(r.url(), "lead.created")
	ids, release := acme.gather(e.ID, drainingEvents, "lead.created")
	release()
	r.await(50)

	room := s.fill()
	if n := acme.stand(e.ID).Backlog; n == 0 {
		t.Fatal("nothing waited any more when Redis was full")
	}
	acme.awaitStand(e.ID, "nothing waits any more", func(st stand) bool { return st.Backlog == 0 })
	room()
	s.awaitSettled()
	checkReceived(t, r.all(), ids)
	acme.checkStand(e.ID)
}
