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

func TestRepetitionGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		first  func() *Request
		second func() *Request // with another body
	}{
		{"header", func() *Request { return keyed(single("", "{}"), "k", 1) }, func() *Request { return keyed(single("", "{}"), "k", 2) }},
		{"header and id", func() *Request { return keyed(single("mine", "{}"), "k", 1) }, func() *Request { return keyed(single("mine", "{}"), "k", 2) }},
		{"id", func() *Request { return single("mine", "{}") }, func() *Request { return single("mine", "{ }") }},
		{"batch with header", func() *Request { return keyed(request(item(0), item(1)), "k", 1) },
			func() *Request { return keyed(request(item(0), item(1)), "k", 2) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, queue := newStubStore(), &stubQueue{}
			store.subscribe("acme", "a", "call.qualified")
			p := start(t, Options{Store: store, Queue: queue})
			first := mustPublish(t, p, tt.first())
			store.subscribe("acme", "b", "call.qualified") // must not change the answer
			if again := mustPublish(t, p, tt.first()); again != first {
				t.Errorf("answered %s, first %s", again, first)
			}
			if len(queue.calls) != 1 {
				t.Errorf("%d Enqueues, want 1", len(queue.calls))
			}
			_, err := p.Publish(tt.second())
			wantCode(t, err, core.CodeIdempotencyMismatch)
			other := tt.second()
			other.Organization = "other"
			mustPublish(t, p, other) // keys belong to an organization
		})
	}
}

// Header and id are different keys, and the header is the key where both are
// given.
func TestHeaderIsTheKey(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	p := start(t, Options{Store: store, Queue: queue})
	mustPublish(t, p, keyed(single("same", "{}"), "k", 1))
	mustPublish(t, p, single("same", "{ }"))
	mustPublish(t, p, keyed(single("", "{}"), "same", 3))
	want := []string{"acme id:same", "acme key:k", "acme key:same"}
	var got []string
	for name := range store.claims {
		got = append(got, name)
	}
	if diff := cmp.Diff(want, sorted(got)); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

// The ids of a batch's items are keys of their own when there is no header.
func TestBatchItemsAreKeys(t *testing.T) {
	t.Parallel()
	store, queue := newStubStore(), &stubQueue{}
	store.subscribe("acme", "a", "call.qualified")
	p := start(t, Options{Store: store, Queue: queue})
	mustPublish(t, p, single("one", "{}"))
	one := single("one", "{}").Items[0]
	changed := single("one", "{   }").Items[0]
	two := single("two", "{}").Items[0]
	three := single("two", "{ }").Items[0] // another body than two
	const mismatch = `{"error":{"code":"idempotency_mismatch","detail":"this idempotency key was used before with another body"}},`
	want := `{"data":[{"id":"one","deliveries":1},` + mismatch +
		`{"id":"two","deliveries":1},{"id":"two","deliveries":1},` + mismatch +
		`{"id":"two","deliveries":1},{"id":"one","deliveries":1},` + strings.TrimSuffix(mismatch, ",") + `]}`
	for range 2 {
		got := mustPublish(t, p, request(one, changed, two, two, three, two, one, changed))
		if got != want {
			t.Errorf("answer %s\nwant   %s", got, want)
		}
	}
	if diff := cmp.Diff([]string{"one a", "two a"}, queue.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// Requests with the same key behave in one flush as they do one after another.
func TestSameKeyWithinOneFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		store.subscribe("acme", "a", "call.qualified")
		gate := make(chan struct{})
		queue.enqueueFunc = func(context.Context, []core.Delivery) []error { <-gate; return nil }
		p := start(t, Options{Store: store, Queue: queue})
		codes := make(chan core.Code, 4)
		publish := func(r *Request) {
			go func() {
				_, err := p.Publish(r)
				codes <- core.CodeOf(err)
			}()
			synctest.Wait()
		}
		publish(single("", "{}"))
		publish(keyed(single("", "{}"), "k", 1))
		publish(keyed(single("", "{}"), "k", 1))
		publish(keyed(single("", "{}"), "k", 2))
		close(gate)
		got := map[core.Code]int{}
		for range 4 {
			got[<-codes]++
		}
		if diff := cmp.Diff(map[core.Code]int{"": 2, core.CodeInProgress: 1, core.CodeIdempotencyMismatch: 1}, got); diff != "" {
			t.Errorf("codes (-want +got):\n%s", diff)
		}
		if n := len(queue.stored()); n != 2 {
			t.Errorf("%d deliveries stored, want 2", n)
		}
	})
}

// When it is unknown whether the first request was stored, the lease decides:
// within it 409, after it the same event ids once more.
func TestUnknownOutcomeIsTakenOver(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		request func() *Request
		want    string // the ids' form; empty: as the first time
	}{
		{"single with header", func() *Request { return keyed(single("", "{}"), "k", 1) }, ""},
		{"batch with header", func() *Request { return keyed(request(item(0), item(1)), "k", 1) }, ""},
		{"id", func() *Request { return single("mine", "{}") }, "mine a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, queue := newStubStore(), &stubQueue{}
				store.subscribe("acme", "a", "call.qualified")
				broken := true
				queue.enqueueFunc = func(_ context.Context, ds []core.Delivery) []error {
					errs := make([]error, len(ds))
					if broken {
						errs[0] = errRedis
					}
					return errs
				}
				p := start(t, Options{Store: store, Queue: queue})
				_, err := p.Publish(tt.request())
				wantCode(t, err, core.CodeUnavailable)
				broken = false
				_, err = p.Publish(tt.request())
				wantCode(t, err, core.CodeInProgress)
				time.Sleep(core.ReservationLease)
				mustPublish(t, p, tt.request())
				if len(queue.calls) != 2 {
					t.Fatalf("%d Enqueues, want 2", len(queue.calls))
				}
				stored := queue.stored()
				if diff := cmp.Diff(stored[:len(stored)/2], stored[len(stored)/2:]); diff != "" {
					t.Errorf("the ids changed (-first +second):\n%s", diff)
				}
				if tt.want != "" && stored[0] != tt.want {
					t.Errorf("stored %s, want %s", stored[0], tt.want)
				}
			})
		})
	}
}

// When certainly nothing was stored, the key is free at once, except where an
// earlier holder may have stored something.
func TestDefiniteFailureReleases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		store.endpointsFunc = func(context.Context, string) ([]core.Endpoint, string, error) { return nil, "", errRedis }
		p := start(t, Options{Store: store, Queue: queue})
		_, err := p.Publish(keyed(single("", "{}"), "k", 1))
		wantCode(t, err, core.CodeUnavailable)
		_, err = p.Publish(single("mine", "{}"))
		wantCode(t, err, core.CodeUnavailable)
		synctest.Wait()
		if got := strings.Join(store.released, " "); got != "key:k id:mine" {
			t.Fatalf("released %q", got)
		}

		// A claim whose first holder vanished without a trace.
		store.claims["acme key:old"] = &stubClaim{
			Reservation: core.Reservation{BodyHash: [32]byte{1}, EventID: "evt_first"}, until: time.Now().Add(-time.Second),
		}
		_, err = p.Publish(keyed(single("", "{}"), "old", 1))
		wantCode(t, err, core.CodeUnavailable)
		if store.claims["acme key:old"] == nil {
			t.Error("a claim that was taken over has been forgotten, and with it the first event id")
		}
		store.endpointsFunc = nil
		queue.enqueueFunc = refuse(0, 1)
		store.subscribe("acme", "a", "call.qualified")
		time.Sleep(core.ReservationLease)
		_, err = p.Publish(keyed(single("", "{}"), "old", 1))
		wantCode(t, err, core.CodeUnavailable)
		if store.claims["acme key:old"] == nil {
			t.Error("a claim that was taken over has been forgotten because its second holder failed")
		}
		store.disable("acme", 0)
		time.Sleep(core.ReservationLease)
		if got := mustPublish(t, p, keyed(single("", "{}"), "old", 1)); got != `{"id":"evt_first","deliveries":0}` {
			t.Errorf("answer %s", got)
		}
	})
}

// refuse returns an enqueueFunc that says of the deliveries named by indexes that
// they are certainly not stored, and of all others that they are stored.
func refuse(indexes ...int) func(context.Context, []core.Delivery) []error {
	return func(_ context.Context, ds []core.Delivery) []error {
		errs := make([]error, len(ds))
		for _, i := range indexes {
			if i < len(ds) {
				errs[i] = core.Unavailable("the queue did not confirm", fmt.Errorf("%w: %w", core.ErrNotStored, errRedis))
			}
		}
		return errs
	}
}

// A key is free at once when the queue has refused all of what it stands for,
// and only then.
func TestRefusedDeliveriesRelease(t *testing.T) {
	t.Parallel()
	unknown := func(ctx context.Context, ds []core.Delivery) []error {
		errs := refuse(0, 1)(ctx, ds)
		errs[len(ds)-1] = errRedis
		return errs
	}
	batch := func() *Request { return wide("e", 2) } // each event makes two deliveries
	tests := []struct {
		name    string
		request *Request
		enqueue func(context.Context, []core.Delivery) []error
		want    []string // released
	}{
		{"all refused", keyed(single("", "{}"), "k", 1), refuse(0, 1), []string{"key:k"}},
		{"one refused", keyed(single("", "{}"), "k", 1), refuse(1), nil},
		{"one refused, one unknown", keyed(single("", "{}"), "k", 1), unknown, nil},
		{"id", single("mine", "{}"), refuse(0, 1), []string{"id:mine"}},
		{"batch", keyed(batch(), "k", 1), refuse(0, 1, 2, 3), []string{"key:k"}},
		{"batch, one event refused", keyed(batch(), "k", 1), refuse(0, 1), nil},
		{"items", batch(), refuse(0, 1, 2, 3), []string{"id:e0", "id:e1"}},
		{"items, one refused", batch(), refuse(0, 1), []string{"id:e0"}},
		{"items, one and a half refused", batch(), refuse(0, 1, 2), []string{"id:e0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, queue := newStubStore(), &stubQueue{enqueueFunc: tt.enqueue}
			store.subscribe("acme", "a", "call.qualified")
			store.subscribe("acme", "b", "call.qualified")
			p := start(t, Options{Store: store, Queue: queue})
			_, err := p.Publish(tt.request)
			wantCode(t, err, core.CodeUnavailable)
			if diff := cmp.Diff(tt.want, store.released); diff != "" {
				t.Errorf("released (-want +got):\n%s", diff)
			}
		})
	}
}

// An Enqueue that is confirmed when the flush's budget is spent is remembered all
// the same, also at the second try; the caller is answered within two seconds.
func TestLateConfirmationIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, queue := newStubStore(), &stubQueue{}
		store.subscribe("acme", "a", "call.qualified")
		queue.enqueueFunc = func(ctx context.Context, _ []core.Delivery) []error {
			_ = hang(ctx)
			return nil
		}
		tries := 0
		store.finishFunc = func(ctx context.Context, _ []core.Reservation) error {
			if tries++; tries == 1 {
				return hang(ctx)
			}
			return ctx.Err()
		}
		p := start(t, Options{Store: store, Queue: queue})
		began := time.Now()
		_, err := p.Publish(keyed(single("", "{}"), "k", 1))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("answered after %v", took)
		}
		if err != nil {
			wantCode(t, err, core.CodeUnavailable)
		}
		time.Sleep(2*time.Second - time.Since(began))
		if got := mustPublish(t, p, keyed(single("", "{}"), "k", 1)); !strings.HasSuffix(got, `,"deliveries":1}`) {
			t.Errorf("answer %s", got)
		}
		if len(queue.calls) != 1 || tries != 2 {
			t.Errorf("%d Enqueues and %d Finishes, want 1 and 2", len(queue.calls), tries)
		}
	})
}
