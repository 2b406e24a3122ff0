package publish

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// wide returns a request of n events, each of which has an id.
func wide(name string, n int) *Request {
	items := make([]Item, n)
	for i := range items {
		items[i] = item(i)
		items[i].ID = fmt.Sprint(name, i)
	}
	return request(items...)
}

// What one request can make of the queue's work is bounded, and the keys of one
// that is refused are free.
func TestTooWideFanOutIsRefused(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	for _, id := range []string{"a", "b", "c"} {
		store.subscribe("acme", id, "call.qualified")
	}
	p := start(t, Options{Store: store, Queue: queue, MaxDeliveries: 9})
	for _, r := range []*Request{wide("x", 4), keyed(wide("x", 4), "k", 1)} {
		_, err := p.Publish(r)
		wantCode(t, err, core.CodeTooLarge)
		if !strings.Contains(err.Error(), "the limit is 9") {
			t.Errorf("%v does not name the limit", err)
		}
	}
	if len(queue.calls) != 0 || len(store.claims) != 0 {
		t.Errorf("%d Enqueues and %d claims of refused requests", len(queue.calls), len(store.claims))
	}
	mustPublish(t, p, wide("x", 3))
	mustPublish(t, p, keyed(wide("x", 3), "k", 2))
}

// Requests of one flush that make too many deliveries together are stored and
// answered in parts: what becomes of one does not decide about the others.
func TestWideFlushIsSplit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		for _, id := range []string{"a", "b", "c"} {
			store.subscribe("acme", id, "call.qualified")
		}
		first, third := make(chan struct{}), make(chan struct{})
		queue.enqueueFunc = func(_ context.Context, ds []core.Delivery) []error {
			switch ds[0].Event.ID {
			case "gate":
				<-first
			case "x0":
				errs := make([]error, len(ds))
				errs[0] = errRedis
				return errs
			case "z0":
				<-third
			}
			return nil
		}
		p := start(t, Options{Store: store, Queue: queue, MaxDeliveries: 9})
		results := make(map[string]chan error)
		publish := func(name string, r *Request) {
			result := make(chan error, 1)
			results[name] = result
			go func() {
				_, err := p.Publish(r)
				result <- err
			}()
			synctest.Wait()
		}
		publish("gate", single("gate", "{}"))
		publish("x", wide("x", 3))
		publish("y", wide("y", 1))
		publish("none", keyed(request(Item{ID: "none", Type: "lead.created"}), "n", 1))
		publish("y again", wide("yy", 2))
		publish("z", wide("z", 3))
		close(first)
		synctest.Wait() // z hangs
		wantCode(t, <-results["x"], core.CodeUnavailable)
		for _, name := range []string{"gate", "y", "none", "y again"} {
			select {
			case err := <-results[name]:
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			default:
				t.Errorf("%s waits for z", name)
			}
		}
		close(third)
		if err := <-results["z"]; err != nil {
			t.Errorf("z: %v", err)
		}
		var sizes []int
		for _, call := range queue.calls {
			sizes = append(sizes, len(call))
		}
		if diff := cmp.Diff([]int{3, 9, 9, 9}, sizes); diff != "" || len(store.begins) != 2 {
			t.Errorf("%d Begins and Enqueues of (-want +got):\n%s", len(store.begins), diff)
		}
	})
}

// A request whose turn comes when its time is over is not stored, and its key is
// free.
func TestLatePartIsNotStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		store.subscribe("acme", "a", "call.qualified")
		queue.enqueueFunc = func(context.Context, []core.Delivery) []error {
			time.Sleep(DefaultBudget / 2)
			return nil
		}
		p := start(t, Options{Store: store, Queue: queue, MaxDeliveries: 1})
		results := make(chan error, 3)
		publish := func(id string) {
			_, err := p.Publish(single(id, "{}"))
			results <- err
		}
		go publish("1")
		synctest.Wait()
		go publish("2") // half of its time passes while it waits, the rest with 2
		synctest.Wait()
		go publish("3")
		failed := 0
		for range 3 {
			if <-results != nil {
				failed++
			}
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{"1 a", "2 a"}, queue.stored()); diff != "" || failed == 0 {
			t.Errorf("%d failed, stored (-want +got):\n%s", failed, diff)
		}
		if diff := cmp.Diff([]string{"id:3"}, store.released); diff != "" {
			t.Errorf("released (-want +got):\n%s", diff)
		}
	})
}
