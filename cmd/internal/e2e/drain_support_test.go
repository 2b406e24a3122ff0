package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/sealpost/sealpost/core/sender"
)

// unsettled is how many requests a crash may repeat besides those in flight: whose
// results were not stored yet.
const unsettled = 64

// shut is an address that refuses connections until it is opened. It is bound all
// the time, so that nobody else gets it.
type shut struct {
	t      *testing.T
	socket *os.File
	addr   string
}

func newShut(t *testing.T) *shut {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	must(err)
	s := &shut{t: t, socket: os.NewFile(uintptr(fd), "shut")}
	t.Cleanup(func() { s.socket.Close() }) // a second time after open
	must(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	bound, err := syscall.Getsockname(fd)
	must(err)
	address := bound.(*syscall.SockaddrInet4)
	s.addr = (&net.TCPAddr{IP: address.Addr[:], Port: address.Port}).String()
	return s
}

// open lets connections in.
func (s *shut) open() net.Listener {
	s.t.Helper()
	if err := syscall.Listen(int(s.socket.Fd()), syscall.SOMAXCONN); err != nil {
		s.t.Fatal(err)
	}
	listener, err := net.FileListener(s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	s.socket.Close() // the listener has its own
	return listener
}

// awaitSettled returns once no task is left in any queue and nothing in any
// backlog: whatever was accepted so far is delivered, discarded or a dead letter.
func (s *system) awaitSettled() {
	s.t.Helper()
	client := s.redis.Client(s.t)
	s.eventually("no task is left in any queue, and nothing in any backlog", func() bool {
		return len(s.queued(client)) == 0
	})
}

// another starts another sender and returns it with the name of its metrics.
func (s *system) another(name string) *process {
	s.t.Helper()
	p := startProcess(s.t, "sender", s.env, "serve")
	s.admin[name] = "http://" + p.listening("admin listening")
	s.awaitReady(name)
	return p
}

// draining returns the one of some senders that works a backlog off.
func (s *system) draining(senders map[string]*process) (p *process) {
	s.t.Helper()
	s.eventually("a sender drains", func() bool {
		for name := range senders {
			if s.metric(name, "sealpost_sender_drains") > 0 {
				p = senders[name]
			}
		}
		return p != nil
	})
	return p
}

// subscribeWith is subscribe with further settings.
func (c *client) subscribeWith(url, eventType string, settings map[string]any) *endpoint {
	c.s.t.Helper()
	request := map[string]any{"url": url, "events": []string{eventType}}
	maps.Copy(request, settings)
	body, err := json.Marshal(request)
	if err != nil {
		c.s.t.Fatal(err)
	}
	var e endpoint
	c.do(http.StatusCreated, "POST", "/api/v1/webhooks", string(body)).decode(c.s.t, &e)
	return &e
}

// publishMany is publishBatch for more than one request's worth, oldest first.
func (c *client) publishMany(n int, eventType string) []string {
	c.s.t.Helper()
	const most = 100
	var ids []string
	for ; n > 0; n -= most {
		ids = append(ids, c.publishBatch(min(n, most), eventType)...)
	}
	return ids
}

// gather makes a backlog of n events, which flows when release is called.
func (c *client) gather(endpoint string, n int, eventType string) (ids []string, release func()) {
	c.s.t.Helper()
	c.patch(endpoint, `{"enabled":false}`)
	ids = c.publishMany(n, eventType)
	if got := c.stand(endpoint).Backlog; got != n {
		c.s.t.Fatalf("%d deliveries wait, want %d", got, n)
	}
	return ids, func() {
		c.s.t.Helper()
		c.patch(endpoint, `{"enabled":true}`)
	}
}

// awaitStand waits until the endpoint stands as ok wants it.
func (c *client) awaitStand(endpoint, what string, ok func(stand) bool) {
	c.s.t.Helper()
	var last stand
	defer func() {
		if c.s.t.Failed() {
			c.s.t.Logf("the endpoint stands so: %+v", last)
		}
	}()
	c.s.eventually(what, func() bool {
		last = c.stand(endpoint)
		return ok(last)
	})
}

// checkStand fails the test unless nothing holds the endpoint's deliveries up. It may
// count as slow, since on a busy machine it may have been.
func (c *client) checkStand(endpoint string) {
	c.s.t.Helper()
	got := c.stand(endpoint)
	if got.State == "slow" {
		got.State = "active"
	}
	if got != (stand{State: "active"}) {
		c.s.t.Errorf("the endpoint stands so: %+v, want active and nothing else", got)
	}
}

// checkDelivered fails the test unless every event came, and at most so many
// requests were repetitions.
func checkDelivered(t *testing.T, requests []received, events []string, repeated int) {
	t.Helper()
	times := tally(requests)
	missing := 0
	for _, id := range events {
		if times[id] == 0 {
			missing++
		}
	}
	if missing > 0 || len(times) != len(events)-missing {
		t.Errorf("of %d events %d are lost, and %d others came", len(events), missing, len(times)-len(events)+missing)
	}
	if n := len(requests) - len(times); n > repeated {
		t.Errorf("%d requests were repetitions, want %d at most", n, repeated)
	} else if n > 0 {
		t.Logf("%d of %d requests were repetitions", n, len(requests))
	}
}

// overtaken returns how many of the events came after one that is newer by more than
// so many places, and by how many places at most. Requests for other events do not
// count.
func overtaken(requests []received, events []string, places int) (late, most int) {
	place := make(map[string]int, len(events))
	for i, id := range events {
		place[id] = i
	}
	newest := 0
	for i := range requests {
		at, counts := place[requests[i].id()]
		if !counts {
			continue
		}
		newest = max(newest, at)
		most = max(most, newest-at)
		if newest-at > places {
			late++
		}
	}
	return late, most
}

// crowd counts the requests that a receiver answers at the same time.
type crowd struct {
	mu        sync.Mutex
	now, most int
}

func (c *crowd) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.most = max(c.most, c.now)
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
}

// field returns what a hash of all backlogs says of an endpoint; "" is nothing.
func (s *system) field(hash, name string) string {
	s.t.Helper()
	values, err := s.redis.Client(s.t).HMGet(context.Background(), "sp:{drain-00}:"+hash, name).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	value, _ := values[0].(string)
	return value
}

// perEndpoint is how many attempts at one endpoint may be in flight with so many
// slots of the process.
func perEndpoint(slots int) int { return min(sender.DefaultPerEndpoint, slots/2) }
