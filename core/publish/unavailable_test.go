package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
)

var errRedis = errors.New("redis is gone")

// hang waits for the end of ctx, as a call to a frozen Redis does.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func hangInEndpoints(s *stubStore, _ *stubQueue) {
	s.endpointsFunc = func(ctx context.Context, _ string) ([]core.Endpoint, string, error) { return nil, "", hang(ctx) }
}

// Whatever hangs, nobody waits longer than the budget, and the answer says "not
// confirmed" and when to come back.
func TestBudget(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		sabotage func(*stubStore, *stubQueue)
		keyed    bool // and releasing keys hangs, too
	}{
		{name: "Begin", sabotage: func(s *stubStore, _ *stubQueue) {
			s.beginFunc = func(ctx context.Context, _ []string, _ []core.Reservation, _ core.Draws) ([]string, []core.ReservationState, error) {
				return nil, nil, hang(ctx)
			}
		}},
		{name: "Endpoints", sabotage: hangInEndpoints},
		{name: "Endpoints and keys", sabotage: hangInEndpoints, keyed: true},
		{name: "Enqueue", sabotage: func(_ *stubStore, q *stubQueue) {
			q.enqueueFunc = func(ctx context.Context, ds []core.Delivery) []error {
				err := hang(ctx)
				errs := make([]error, len(ds))
				for i := range errs {
					errs[i] = err
				}
				return errs
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, queue := newStubStore(), &stubQueue{}
				store.subscribe("acme", "a", "call.qualified")
				tt.sabotage(store, queue)
				most := DefaultBudget
				if tt.keyed {
					most, store.releaseFunc = DefaultBudget+closeTime, hang
				}
				p := start(t, Options{Store: store, Queue: queue})
				began := time.Now()
				results := make(chan error, 6)
				for i := range 6 {
					go func() {
						time.Sleep(time.Duration(i) * 300 * time.Millisecond)
						arrived, id := time.Now(), ""
						if tt.keyed {
							id = fmt.Sprint("event-", i)
						}
						_, err := p.Publish(single(id, "{}"))
						if took := time.Since(arrived); took > most {
							t.Errorf("request %d was answered after %v", i, took)
						}
						results <- err
					}()
				}
				for range 6 {
					err := <-results
					wantCode(t, err, core.CodeUnavailable)
					if e := new(core.Error); !errors.As(err, &e) || e.RetryAfter <= 0 || strings.Contains(e.Detail, "redis") {
						t.Errorf("error %+v", e)
					}
				}
				if took := time.Since(began); took > 2*most {
					t.Errorf("all were answered after %v", took)
				}
			})
		})
	}
}

// A request that still waits at its deadline is taken out and not stored.
func TestLateRequestIsNotStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		store.subscribe("acme", "a", "call.qualified")
		queue.enqueueFunc = func(ctx context.Context, ds []core.Delivery) []error {
			return slices.Repeat([]error{hang(ctx)}, len(ds))
		}
		p := start(t, Options{Store: store, Queue: queue})
		results := make(chan error, 3)
		publish := func(id string) {
			_, err := p.Publish(single(id, "{}"))
			results <- err
		}
		go publish("") // taken
		synctest.Wait()
		go publish("waits")
		synctest.Wait()
		time.Sleep(20 * time.Millisecond)
		go publish("short") // will have 20 ms left when its flush begins
		time.Sleep(DefaultBudget - 20*time.Millisecond)
		for range 3 {
			wantCode(t, <-results, core.CodeUnavailable)
		}
		synctest.Wait()
		for _, d := range queue.stored() {
			if strings.HasPrefix(d, "waits") || strings.HasPrefix(d, "short") {
				t.Errorf("stored %s although its request had been answered", d)
			}
		}
		if events, bytes := p.collector.pending(); events != 0 || bytes != 0 {
			t.Errorf("%d events and %d bytes are still counted", events, bytes)
		}
	})
}

func TestTooLittleBudgetLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		p := start(t, Options{Store: store, Queue: queue})
		r := single("", "{}")
		r.Arrived = time.Now().Add(-DefaultBudget + minBudget/2)
		_, err := p.Publish(r)
		wantCode(t, err, core.CodeUnavailable)
		if len(store.begins) != 0 {
			t.Error("a request without budget was begun")
		}
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		o    Options
	}{
		{"events", Options{MaxPending: 3}},
		{"bytes", Options{MaxPendingBytes: 6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, queue := newStubStore(), &stubQueue{}
				store.subscribe("acme", "a", "call.qualified")
				gate := make(chan struct{})
				queue.enqueueFunc = func(context.Context, []core.Delivery) []error { <-gate; return nil }
				o := tt.o
				o.Store, o.Queue = store, queue
				p := start(t, o)
				results := make(chan error, 3)
				for range 3 { // one in flight, two waiting
					go func() {
						_, err := p.Publish(single("", "{}"))
						results <- err
					}()
					synctest.Wait()
				}
				before := time.Now()
				_, err := p.Publish(single("", "{}"))
				wantCode(t, err, core.CodeUnavailable)
				if time.Since(before) != 0 {
					t.Error("the refusal took time")
				}
				close(gate)
				for range 3 {
					if err := <-results; err != nil {
						t.Error(err)
					}
				}
				synctest.Wait() // a flush gives back what it held after it has answered
				mustPublish(t, p, single("", "{}"))
				synctest.Wait()
				mustPublish(t, p, request(item(0), item(1), item(2), item(3), item(4), item(5), item(6))) // alone it passes
			})
		})
	}
}

func TestNotAccepting(t *testing.T) {
	t.Parallel()
	store := newStubStore()
	full := core.Unavailable("storage is nearly full", nil)
	p := start(t, Options{Store: store, Queue: &stubQueue{}, Accepting: func() error { return full }})
	_, err := p.Publish(single("", "{}"))
	if !errors.Is(err, full) {
		t.Errorf("error %v, want %v", err, full)
	}
	if len(store.begins) != 0 {
		t.Error("Redis was asked although nothing is accepted")
	}
}

// A batch is confirmed as a whole or not at all; the keys of those of its
// events that are stored remember it.
func TestPartlyStoredBatch(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified")
	broken := true
	queue.enqueueFunc = func(_ context.Context, ds []core.Delivery) []error {
		errs := make([]error, len(ds))
		if broken {
			errs[1] = errRedis
		}
		return errs
	}
	p := start(t, Options{Store: store, Queue: queue})
	batch := func() *Request {
		one, two := item(0), item(1)
		one.ID, two.ID = "one", "two"
		return request(one, two)
	}
	_, err := p.Publish(batch())
	wantCode(t, err, core.CodeUnavailable)
	if !errors.Is(err, errRedis) {
		t.Errorf("the cause is lost: %v", err)
	}
	broken = false
	got := mustPublish(t, p, batch())
	if !strings.HasPrefix(got, `{"data":[{"id":"one","deliveries":1},{"error":{"code":"in_progress"`) {
		t.Errorf("repetition within the lease: %s", got)
	}
}

// The deliveries are stored, so the answer stands although its key could not be
// closed.
func TestFinishFails(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified")
	store.finishFunc = func(context.Context, []core.Reservation) error { return errRedis }
	p := start(t, Options{Store: store, Queue: queue})
	if got := mustPublish(t, p, single("mine", "{}")); got != `{"id":"mine","deliveries":1}` {
		t.Errorf("answer %s", got)
	}
}
