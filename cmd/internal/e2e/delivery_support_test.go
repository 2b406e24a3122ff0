package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// metronome measures how long this machine keeps a runnable goroutine waiting.
// It tells by how much a request may seem to have begun after an answer that
// forbids it, though it did not: the sender promises with 50 ms to spare, but it
// takes part in the same scheduling as the receiver that notes the request.
type metronome struct {
	worst  atomic.Int64 // ns
	cancel context.CancelFunc
	done   chan struct{}
}

const (
	beat       = 5 * time.Millisecond
	promptness = 50 * time.Millisecond // on a machine that has nothing else to do
)

func startMetronome(t *testing.T) *metronome {
	ctx, cancel := context.WithCancel(context.Background())
	m := &metronome{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			began := time.Now()
			time.Sleep(beat)
			m.worst.Store(max(m.worst.Load(), int64(time.Since(began)-beat)))
		}
	}()
	t.Cleanup(m.stop)
	return m
}

func (m *metronome) stop() {
	m.cancel()
	<-m.done
}

// allowance ends the measurement and returns by how much a request may be late.
// Several goroutines of two processes stand between the sender's look at the
// clock and the receiver's; each may have been kept waiting.
func (m *metronome) allowance() time.Duration {
	m.stop()
	return promptness + 4*time.Duration(m.worst.Load())
}

// backlogs names, in what queued returns, the endpoints with a backlog.
const backlogs = "backlogs"

// queued returns how many tasks wait, run, or were put aside in all queues, by
// queue and state, and how many endpoints have a backlog, at one instant. What is
// none is left out.
func (s *system) queued(client *redis.Client) map[string]int64 {
	s.t.Helper()
	ctx := context.Background()
	names, err := client.SMembers(ctx, "asynq:queues").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	counts := make(map[string]*redis.IntCmd)
	_, err = client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		counts[backlogs] = p.ZCard(ctx, "sp:{drain-00}:waiting")
		for _, name := range names {
			for _, state := range []string{"pending", "active"} {
				counts[name+" "+state] = p.LLen(ctx, "asynq:{"+name+"}:"+state)
			}
			for _, state := range []string{"scheduled", "retry", "archived"} {
				counts[name+" "+state] = p.ZCard(ctx, "asynq:{"+name+"}:"+state)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	waiting := make(map[string]int64)
	for name, count := range counts {
		if count.Val() > 0 {
			waiting[name] = count.Val()
		}
	}
	return waiting
}

// awaitIdle returns once nothing is left anywhere: whatever was accepted so far is
// delivered, discarded or a dead letter, and nothing more will be sent. A task in
// asynq's archive fails the test, since nobody would ever look at it.
func (s *system) awaitIdle() {
	s.t.Helper()
	s.awaitIdleWithin(patience)
}

func (s *system) awaitIdleWithin(limit time.Duration) {
	s.t.Helper()
	s.awaitNothing(limit, "no task is left in any queue, and no delivery in any backlog")
}

// awaitQueues returns once no task is left in a queue. Backlogs may hold more: what
// waits for its endpoint stays there.
func (s *system) awaitQueues() {
	s.t.Helper()
	s.awaitNothing(patience, "no task is left in any queue", backlogs)
}

func (s *system) awaitNothing(limit time.Duration, what string, but ...string) {
	s.t.Helper()
	client := s.redis.Client(s.t)
	s.eventuallyWithin(limit, what, func() bool {
		waiting := s.queued(client)
		for _, name := range but {
			delete(waiting, name)
		}
		for name, n := range waiting {
			if strings.HasSuffix(name, " archived") {
				s.t.Fatalf("%d tasks in %s", n, name)
			}
		}
		return len(waiting) == 0
	})
}

// deadLetters returns the reason of each dead letter of an endpoint by event
// id, as they lie in Redis.
func (s *system) deadLetters(endpoint string) map[string]string {
	s.t.Helper()
	entries, err := s.redis.Client(s.t).XRange(context.Background(), "sp:{ep:"+endpoint+"}:dead", "-", "+").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	reasons := make(map[string]string)
	for _, e := range entries {
		event, _ := e.Values["event"].(string)
		reasons[event], _ = e.Values["reason"].(string)
	}
	if len(reasons) != len(entries) {
		s.t.Errorf("%d dead letters for %d events", len(entries), len(reasons))
	}
	return reasons
}

// keysOf returns the names of all Redis keys that belong to an endpoint alone.
func (s *system) keysOf(endpoint string) []string {
	s.t.Helper()
	keys, err := s.redis.Client(s.t).Keys(context.Background(), "sp:{ep:"+endpoint+"}*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return keys
}

// publishBatch posts n events of a type in one request and returns their ids.
// Each has to match one endpoint.
func (c *client) publishBatch(n int, eventType string) []string {
	c.s.t.Helper()
	var body strings.Builder
	for i := range n {
		fmt.Fprintf(&body, `,{"type":%q,"data":{"n":%d}}`, eventType, i)
	}
	var accepted struct {
		Data []struct {
			ID         string
			Deliveries int
			Error      json.RawMessage
		}
	}
	c.do(http.StatusAccepted, "POST", "/api/v1/events/batch", "["+body.String()[1:]+"]").decode(c.s.t, &accepted)
	if len(accepted.Data) != n {
		c.s.t.Fatalf("a batch of %d events has %d answers", n, len(accepted.Data))
	}
	ids := make([]string, n)
	for i, item := range accepted.Data {
		if item.Deliveries != 1 || item.Error != nil {
			c.s.t.Fatalf("event %d of the batch: %d deliveries, error %s", i, item.Deliveries, item.Error)
		}
		ids[i] = item.ID
	}
	return ids
}

// patch changes an endpoint.
func (c *client) patch(endpointID, change string) *endpoint {
	c.s.t.Helper()
	var e endpoint
	c.do(http.StatusOK, "PATCH", "/api/v1/webhooks/"+endpointID, change).decode(c.s.t, &e)
	return &e
}

// flow is a stream of events while something else happens.
type flow struct {
	c    *client
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	accepted []string // ids of events with a delivery
	failures []string
}

// startFlow publishes events of a type from several producers at once, each as
// fast as it is answered, until end is called.
func (c *client) startFlow(producers int, eventType string) *flow {
	c.s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	f := &flow{c: c, stop: stop}
	for range producers {
		f.wg.Go(func() {
			for ctx.Err() == nil {
				f.publish(eventType)
			}
		})
	}
	c.s.t.Cleanup(f.halt)
	return f
}

// halt stops the producers.
func (f *flow) halt() {
	f.stop()
	f.wg.Wait()
}

func (f *flow) publish(eventType string) {
	r, err := f.c.try("POST", "/api/v1/events", fmt.Sprintf(`{"type":%q,"data":{}}`, eventType))
	var accepted struct {
		ID         string
		Deliveries int
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil:
		f.failures = append(f.failures, err.Error())
	case r.status != http.StatusAccepted:
		f.failures = append(f.failures, fmt.Sprintf("%d %s", r.status, r.body))
	case json.Unmarshal(r.body, &accepted) != nil:
		f.failures = append(f.failures, string(r.body))
	case accepted.Deliveries > 0:
		f.accepted = append(f.accepted, accepted.ID)
	}
}

// end stops the producers and returns the ids of the events that became
// deliveries. Every event has to have been accepted.
func (f *flow) end() []string {
	f.c.s.t.Helper()
	f.halt()
	if len(f.failures) > 0 {
		f.c.s.t.Errorf("%d events were not accepted, the first one: %s", len(f.failures), f.failures[0])
	}
	return f.accepted
}

// tally counts requests by webhook-id.
func tally(requests []received) map[string]int {
	n := make(map[string]int)
	for i := range requests {
		n[requests[i].id()]++
	}
	return n
}

// checkReceived fails the test unless exactly the given events came, each once.
func checkReceived(t *testing.T, requests []received, events []string) {
	t.Helper()
	times := tally(requests)
	var missing, repeated []string
	for _, id := range events {
		if times[id] == 0 {
			missing = append(missing, id)
		}
	}
	for id, n := range times {
		switch {
		case n > 1:
			repeated = append(repeated, id)
		case !slices.Contains(events, id):
			t.Errorf("the event %q came, which nobody published here", id)
		}
	}
	if len(missing) > 0 || len(repeated) > 0 {
		t.Errorf("of %d events %d are missing and %d came more than once", len(events), len(missing), len(repeated))
	}
}

// gate holds a receiver's answers back until it is opened. A receiver can only
// close once it is, so a test calls t.Cleanup(g.release) after newReceiver.
type gate struct {
	open chan struct{}
	once sync.Once
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

// wait returns when the gate is opened.
func (g *gate) wait() { <-g.open }

// answers returns a receiver's answer function that gives the n-th request the
// n-th status, and every further one the last.
func answers(statuses ...int) func(n int, r *received, w http.ResponseWriter) {
	return func(n int, _ *received, w http.ResponseWriter) {
		w.WriteHeader(statuses[min(n, len(statuses))-1])
	}
}

// instant reads a time of the API.
func instant(t *testing.T, s *string) time.Time {
	t.Helper()
	if s == nil {
		t.Fatal("a time is missing")
	}
	at, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		t.Fatalf("time %q: %v", *s, err)
	}
	return at
}

// text returns what a nullable field says.
func text(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}
