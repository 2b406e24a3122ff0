package publish

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
)

func TestPublishSingle(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified", "lead.created")
	store.subscribe("acme", "b", "call.qualified")
	store.subscribe("acme", "c", "lead.created")
	store.subscribe("other", "d", "call.qualified")
	p := start(t, Options{Store: store, Queue: queue})

	r := single("", "{}")
	answer := mustPublish(t, p, r)
	if !regexp.MustCompile(`^\{"id":"evt_[0-9a-z]{26}","deliveries":2\}$`).MatchString(answer) {
		t.Errorf("answer %s", answer)
	}
	var got struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{got.ID + " a", got.ID + " b"}, queue.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	d := queue.calls[0][0]
	if d.Organization != "acme" || !strings.HasPrefix(d.ID, "whd_") || string(d.Event.Body) != "{}" ||
		d.Event.Type != "call.qualified" || !d.Event.AcceptedAt.Equal(r.Arrived) || d.Attempts != 0 || !d.Due.IsZero() {
		t.Errorf("delivery %+v of event %+v", d, d.Event)
	}
	if queue.calls[0][0].ID == queue.calls[0][1].ID {
		t.Error("two deliveries have the same id")
	}
	if queue.calls[0][0].Event != queue.calls[0][1].Event {
		t.Error("the deliveries of one event do not share it")
	}
}

func TestPublishWithoutSubscribers(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	p := start(t, Options{Store: store, Queue: queue})
	if got, want := mustPublish(t, p, single("mine", "{}")), `{"id":"mine","deliveries":0}`; got != want {
		t.Errorf("answer %s, want %s", got, want)
	}
	if len(queue.calls) != 0 {
		t.Error("the queue was asked to store nothing")
	}
	if len(store.begins) != 1 {
		t.Errorf("%d Begins, want 1: even without deliveries the answer must be based on Redis", len(store.begins))
	}
}

// A snapshot is validated by every flush: it is read again exactly when the
// organization has moved.
func TestSnapshotFollowsChanges(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified")
	p := start(t, Options{Store: store, Queue: queue})
	steps := []struct {
		name   string
		change func()
		answer string
		reads  int // in all
	}{
		{"first", func() {}, `{"id":"1","deliveries":1}`, 1},
		{"unmoved", func() {}, `{"id":"2","deliveries":1}`, 1},
		{"new endpoint", func() { store.subscribe("acme", "b", "call.qualified") }, `{"id":"3","deliveries":2}`, 2},
		{"unmoved again", func() {}, `{"id":"4","deliveries":2}`, 2},
		{"disabled", func() { store.disable("acme", 0) }, `{"id":"5","deliveries":1}`, 3},
		{"another organization's change", func() { store.subscribe("other", "c", "call.qualified") }, `{"id":"6","deliveries":1}`, 3},
		{"token lost", func() { store.mu.Lock(); delete(store.versions, "acme"); store.mu.Unlock() }, `{"id":"7","deliveries":1}`, 4},
		{"token still lost", func() {}, `{"id":"8","deliveries":1}`, 5},
	}
	for i, step := range steps {
		step.change()
		got := mustPublish(t, p, single(string(rune('1'+i)), "{}"))
		if got != step.answer || store.reads != step.reads {
			t.Errorf("%s: answer %s after %d reads, want %s after %d", step.name, got, store.reads, step.answer, step.reads)
		}
	}
}

func TestSnapshotExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStubStore()
		store.subscribe("acme", "a", "call.qualified")
		p := start(t, Options{Store: store, Queue: &stubQueue{}})
		mustPublish(t, p, single("1", "{}"))
		time.Sleep(snapshotLifetime)
		mustPublish(t, p, single("2", "{}"))
		if store.reads != 1 {
			t.Fatalf("%d reads within the lifetime, want 1", store.reads)
		}
		time.Sleep(time.Second)
		mustPublish(t, p, single("3", "{}"))
		if store.reads != 2 {
			t.Errorf("%d reads after the lifetime, want 2", store.reads)
		}
	})
}

func TestPublishBatch(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified")
	p := start(t, Options{Store: store, Queue: queue})
	bad := core.Invalid("type", `unknown "type"`)
	body := mustPublish(t, p, request(item(0), Item{Err: bad}, Item{ID: "mine", Type: "lead.created"}, item(3)))
	var answer struct {
		Data []struct {
			ID         string
			Deliveries *int
			Error      *itemError
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("answer %s: %v", body, err)
	}
	if len(answer.Data) != 4 {
		t.Fatalf("answer %s", body)
	}
	base := strings.TrimSuffix(answer.Data[0].ID, "_0")
	if !strings.HasPrefix(base, "evt_") || answer.Data[3].ID != base+"_3" || *answer.Data[3].Deliveries != 1 {
		t.Errorf("ids %q and %q, want one base with an index", answer.Data[0].ID, answer.Data[3].ID)
	}
	if diff := cmp.Diff(&itemError{Code: core.CodeInvalid, Detail: bad.Detail, Errors: bad.Fields}, answer.Data[1].Error); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	if answer.Data[2].ID != "mine" || *answer.Data[2].Deliveries != 0 {
		t.Errorf("item 2: %+v", answer.Data[2])
	}
	if diff := cmp.Diff([]string{base + "_0 a", base + "_3 a"}, queue.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if got := mustPublish(t, p, &Request{Organization: "acme", Batch: true, Arrived: time.Now()}); got != `{"data":[]}` {
		t.Errorf("empty batch: %s", got)
	}
}

func TestSingleBadEvent(t *testing.T) {
	t.Parallel()
	store := newStubStore()
	p := start(t, Options{Store: store, Queue: &stubQueue{}})
	_, err := p.Publish(request(Item{Err: core.Invalid("data", "is required")}))
	wantCode(t, err, core.CodeInvalid)
	if len(store.begins) != 0 {
		t.Error("Redis was asked about a bad event")
	}
}

// What arrives while a flush is in flight is one flush afterwards.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		for _, o := range []string{"acme", "other"} {
			store.subscribe(o, o+"-endpoint", "call.qualified")
		}
		gate := make(chan struct{})
		queue.enqueueFunc = func(context.Context, []core.Delivery) []error { <-gate; return nil }
		p := start(t, Options{Store: store, Queue: queue})
		results := make(chan error, 20)
		publish := func(organization string) {
			r := single("", "{}")
			r.Organization = organization
			_, err := p.Publish(r)
			results <- err
		}
		go publish("acme")
		synctest.Wait() // the first flush hangs in Enqueue
		for range 9 {
			go publish("acme")
			go publish("other")
		}
		synctest.Wait()
		close(gate)
		for range 19 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if len(queue.calls) != 2 || len(queue.calls[0]) != 1 || len(queue.calls[1]) != 18 {
			t.Errorf("%d Enqueues, want one of 1 and one of 18 deliveries", len(queue.calls))
		}
		if len(store.begins) != 2 || len(store.begins[1]) != 2 {
			t.Errorf("Begins for %v, want each organization once in the second", store.begins)
		}
	})
}

// Stopping flushes what waits and refuses what comes later.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		store.subscribe("acme", "a", "call.qualified")
		gate := make(chan struct{})
		queue.enqueueFunc = func(context.Context, []core.Delivery) []error { <-gate; return nil }
		p, err := New(Options{Store: store, Queue: queue, Backlog: &stubBacklog{}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		results := make(chan error, 2)
		publish := func() { _, err := p.Publish(single("", "{}")); results <- err }
		go publish()
		synctest.Wait()
		go publish() // waits behind the first
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case <-ended:
			t.Fatal("Run ended with a flush in flight")
		default:
		}
		_, err = p.Publish(single("", "{}"))
		wantCode(t, err, core.CodeUnavailable)
		close(gate)
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("a request that waited was refused: %v", err)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified")
	panics := true
	queue.enqueueFunc = func(context.Context, []core.Delivery) []error {
		if panics {
			panic("broken")
		}
		return nil
	}
	p := start(t, Options{Store: store, Queue: queue})
	_, err := p.Publish(single("", "{}"))
	wantCode(t, err, core.CodeInternal)
	panics = false
	mustPublish(t, p, single("", "{}"))
	if events, bytes := p.collector.pending(); events != 0 || bytes != 0 {
		t.Errorf("%d events and %d bytes are still counted", events, bytes)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"no store":       {Queue: &stubQueue{}, Backlog: &stubBacklog{}},
		"no queue":       {Store: newStubStore(), Backlog: &stubBacklog{}},
		"no backlog":     {Store: newStubStore(), Queue: &stubQueue{}},
		"negative bound": {Store: newStubStore(), Queue: &stubQueue{}, Backlog: &stubBacklog{}, Flushes: -1},
		"negative width": {Store: newStubStore(), Queue: &stubQueue{}, Backlog: &stubBacklog{}, MaxDeliveries: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	registry := prometheus.NewRegistry()
	o := Options{Store: newStubStore(), Queue: &stubQueue{}, Backlog: &stubBacklog{}, Registerer: registry}
	if _, err := New(o); err != nil {
		t.Fatal(err)
	}
	if _, err := New(o); !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		t.Errorf("second registration: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified")
	registry := prometheus.NewPedanticRegistry()
	p := start(t, Options{Store: store, Queue: queue, Registerer: registry})
	mustPublish(t, p, keyed(request(item(0), item(1), Item{Err: core.Invalid("type", "x")}), "k", 1))
	mustPublish(t, p, keyed(request(item(0), item(1)), "k", 1))
	if _, err := p.Publish(keyed(request(item(0), item(1), item(2)), "k", 2)); err == nil {
		t.Fatal("no error")
	}
	p.Reject(core.CodeTooLarge, 1)
	want := `
# HELP sealpost_deliveries_accepted_total Deliveries stored for accepted events.
# TYPE sealpost_deliveries_accepted_total counter
sealpost_deliveries_accepted_total 2
# HELP sealpost_events_accepted_total Events stored with all their deliveries.
# TYPE sealpost_events_accepted_total counter
sealpost_events_accepted_total 2
# HELP sealpost_events_repeated_total Events answered with the first answer to their idempotency key.
# TYPE sealpost_events_repeated_total counter
sealpost_events_repeated_total 2
# HELP sealpost_publish_pending_events Events waiting to be stored or being stored.
# TYPE sealpost_publish_pending_events gauge
sealpost_publish_pending_events 0
`
	err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sealpost_deliveries_accepted_total",
		"sealpost_events_accepted_total", "sealpost_events_repeated_total", "sealpost_publish_pending_events")
	if err != nil {
		t.Error(err)
	}
	for code, n := range map[core.Code]float64{core.CodeInvalid: 1, core.CodeIdempotencyMismatch: 3, core.CodeTooLarge: 1} {
		if got := testutil.ToFloat64(p.metrics.rejected[code]); got != n {
			t.Errorf("%s rejected %v times, want %v", code, got, n)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}
