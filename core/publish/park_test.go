package publish

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
)

// setupParked starts a Publisher for an ordinary endpoint "a", a paced one "b"
// and a disabled one "c" that holds.
func setupParked(t *testing.T, o Options) (*Publisher, *stubStore, *stubQueue, *stubBacklog) {
	t.Helper()
	store, queue, backlog := newStubStore(), &stubQueue{}, &stubBacklog{}
	for i, change := range []func(*core.Endpoint){
		func(*core.Endpoint) {}, func(e *core.Endpoint) { e.FIFO = true }, func(e *core.Endpoint) { e.Enabled = false },
	} {
		store.subscribe("acme", string(rune('a'+i)), "call.qualified")
		store.change("acme", i, change)
	}
	o.Store, o.Queue, o.Backlog = store, queue, backlog
	return start(t, o), store, queue, backlog
}

// What is not sent at once goes to the backlogs, and the answer counts it.
func TestParked(t *testing.T) {
	t.Parallel()
	p, store, queue, backlog := setupParked(t, Options{})
	r := single("1", "{}")
	if got := mustPublish(t, p, r); got != `{"id":"1","deliveries":3}` {
		t.Errorf("answer %s", got)
	}
	if diff := cmp.Diff([]string{"1 a"}, queue.stored()); diff != "" {
		t.Errorf("queued (-want +got):\n%s", diff)
	}
	if len(backlog.calls) != 1 || len(backlog.calls[0]) != 2 {
		t.Fatalf("parked %+v, want two backlogs at once", backlog.calls)
	}
	for i, want := range []struct {
		id  string
		due time.Time
	}{{"b", time.Time{}}, {"c", r.Arrived.Add(core.HeldLook)}} {
		got := backlog.calls[0][i]
		if got.Endpoint != (core.EndpointRef{Organization: "acme", ID: want.id}) || !got.Due.Equal(want.due) ||
			got.Condition != (core.Condition{}) || !got.Failing.IsZero() || len(backlog.of(want.id)) != 1 {
			t.Errorf("parking %+v, want one delivery for %+v", got, want)
		}
	}
	if n := testutil.ToFloat64(p.metrics.parked); n != 2 {
		t.Errorf("%v deliveries are counted as parked, want 2", n)
	}
	store.disable("acme", 0)
	if got := mustPublish(t, p, single("2", "{}")); got != `{"id":"2","deliveries":2}` || len(queue.calls) != 1 {
		t.Errorf("answer %s after %d Enqueues, want none for backlogs alone", got, len(queue.calls))
	}
}

// The order in which events were accepted is the order of a backlog, over
// requests, flushes and the parts of a flush.
func TestParkedInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _, queue, backlog := setupParked(t, Options{MaxDeliveries: 9})
		gate := make(chan struct{})
		queue.enqueueFunc = func(context.Context, []core.Delivery) []error { <-gate; return nil }
		done := make(chan error)
		var want []string
		for i := range 7 { // one in flight, six in the parts of the next flush
			r := wide(fmt.Sprint(i, "-"), 1+i%3)
			for _, it := range r.Items {
				want = append(want, it.ID)
			}
			go func() { _, err := p.Publish(r); done <- err }()
			synctest.Wait()
		}
		close(gate)
		for range 7 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for _, id := range []string{"b", "c"} {
			if diff := cmp.Diff(want, backlog.of(id)); diff != "" {
				t.Errorf("backlog of %s (-want +got):\n%s", id, diff)
			}
		}
		if len(backlog.calls) < 3 {
			t.Errorf("%d Parks, want one for each part", len(backlog.calls))
		}
	})
}

// Neither half waits for the other.
func TestParkBesideEnqueue(t *testing.T) {
	t.Parallel()
	p, _, queue, backlog := setupParked(t, Options{})
	parks, enqueues := make(chan struct{}), make(chan struct{})
	backlog.parkFunc = func(context.Context, []core.Parking) error { close(parks); <-enqueues; return nil }
	queue.enqueueFunc = func(context.Context, []core.Delivery) []error { close(enqueues); <-parks; return nil }
	mustPublish(t, p, single("", "{}"))
}

// An error of Park is one of its own deliveries only: an event without any is
// answered as if nothing had happened.
func TestParkFails(t *testing.T) {
	t.Parallel()
	p, store, queue, backlog := setupParked(t, Options{})
	store.subscribe("acme", "d", "lead.created")
	unknown, never := errors.New("redis is gone"), fmt.Errorf("refused: %w", core.ErrNotStored)
	for _, tt := range []struct {
		name    string
		park    error
		enqueue []error
		panics  bool // Park
		code    core.Code
		free    bool // the idempotency key
	}{
		{name: "park unknown", park: unknown, code: core.CodeUnavailable},
		{name: "park never", park: never, code: core.CodeUnavailable}, // "a" has got it
		{name: "both never", park: never, enqueue: []error{core.ErrNotStored}, code: core.CodeUnavailable, free: true},
		{name: "enqueue unknown", enqueue: []error{unknown}, code: core.CodeUnavailable},
		{name: "park panics", panics: true, code: core.CodeUnavailable},
		{name: "fine", code: ""},
	} {
		backlog.parkFunc = func(context.Context, []core.Parking) error {
			if tt.panics {
				panic("broken")
			}
			return tt.park
		}
		queue.enqueueFunc = func(context.Context, []core.Delivery) []error { return tt.enqueue }
		_, err := p.Publish(single(tt.name, "{}"))
		if got := core.CodeOf(err); got != tt.code {
			t.Errorf("%s: error %v has code %q, want %q", tt.name, err, got, tt.code)
		}
		store.mu.Lock()
		claim := store.claims["acme id:"+tt.name]
		store.mu.Unlock()
		if free := claim == nil; free != tt.free {
			t.Errorf("%s: the idempotency key is free: %v, want %v", tt.name, free, tt.free)
		}
	}
	queue.enqueueFunc = nil
	backlog.parkFunc = func(context.Context, []core.Parking) error { return unknown }
	one, two := item(0), item(1)
	one.ID, two.ID, two.Type = "one", "two", "lead.created"
	if _, err := p.Publish(request(one, two)); core.CodeOf(err) != core.CodeUnavailable {
		t.Errorf("batch: %v", err)
	}
	if got := mustPublish(t, p, request(two)); got != `{"id":"two","deliveries":1}` {
		t.Errorf("the event without a backlog: %s", got)
	}
}

// Whatever hangs in a Park, nobody waits longer than the budget.
func TestParkHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _, _, backlog := setupParked(t, Options{})
		backlog.parkFunc = func(ctx context.Context, _ []core.Parking) error { return hang(ctx) }
		began := time.Now()
		_, err := p.Publish(single("", "{}"))
		wantCode(t, err, core.CodeUnavailable)
		if took := time.Since(began); took > DefaultBudget {
			t.Errorf("answered after %v", took)
		}
		synctest.Wait()
	})
}

// A panic beside a Park is answered, and nothing of the flush is used again
// before the Park has ended.
func TestPanicBesidePark(t *testing.T) {
	t.Parallel()
	p, _, queue, backlog := setupParked(t, Options{})
	parks := make(chan struct{})
	queue.enqueueFunc = func(context.Context, []core.Delivery) []error { defer close(parks); panic("broken") }
	backlog.parkFunc = func(_ context.Context, ps []core.Parking) error {
		<-parks
		if len(ps) != 2 || len(ps[0].Deliveries) != 1 {
			t.Error("the flush was used again")
		}
		return nil
	}
	_, err := p.Publish(single("", "{}"))
	wantCode(t, err, core.CodeInternal)
	queue.enqueueFunc, backlog.parkFunc = nil, nil
	mustPublish(t, p, single("", "{}"))
}
