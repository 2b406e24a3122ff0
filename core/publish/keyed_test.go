package publish

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// What the queue has kept with the deliveries, nobody keeps again, and it is what
// the request is answered.
func TestAnswersAreKeptByTheQueue(t *testing.T) {
	t.Parallel()
	ided := func(id string) Item { it := item(0); it.ID = id; return it }
	unheard := ided("unheard")
	unheard.Type = "lead.created"
	for _, tt := range []struct {
		name    string
		request func() *Request
		want    []string // "key from to answer" of what is to be kept; EVT for an id that was made up
		later   []string // keys that are finished on their own
	}{
		{"header", func() *Request { return keyed(single("mine", "{}"), "k", 1) },
			[]string{`key:k 0 2 {"id":"mine","deliveries":2}`}, nil},
		{"id", func() *Request { return single("mine", "{}") },
			[]string{`id:mine 0 2 {"id":"mine","deliveries":2}`}, nil},
		{"batch with header", func() *Request {
			return keyed(request(ided("a"), Item{Err: core.Invalid("type", "unknown")}, unheard, ided("b")), "k", 1)
		}, []string{`key:k 0 4 {"data":[{"id":"a","deliveries":2},{"error":{"code":"invalid","detail":"type: unknown","errors":[{"field":"type","detail":"unknown"}]}},` +
			`{"id":"unheard","deliveries":0},{"id":"b","deliveries":2}]}`}, nil},
		{"batch of ids", func() *Request { return request(ided("a"), unheard, item(1), ided("b"), ided("a")) },
			[]string{`id:a 0 2 {"id":"a","deliveries":2}`, `id:b 4 6 {"id":"b","deliveries":2}`}, []string{"id:unheard"}},
		{"nobody gets it", func() *Request { return keyed(request(unheard, unheard), "k", 1) }, nil, []string{"key:k"}},
		{"no key", func() *Request { return single("", "{}") }, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, queue := newStubStore(), &stubQueue{}
			queue.answers = store
			store.subscribe("acme", "x", "call.qualified")
			store.subscribe("acme", "y", "call.qualified")
			var later []string
			store.finishFunc = func(_ context.Context, rs []core.Reservation) error {
				for i := range rs {
					later = append(later, rs[i].Key)
				}
				return nil
			}
			p := start(t, Options{Store: store, Queue: queue})
			first := mustPublish(t, p, tt.request())
			var kept []string
			for _, k := range queue.keyed {
				kept = append(kept, fmt.Sprintf("%s %d %d %s", k.Key, k.From, k.To, k.Answer))
			}
			if diff := cmp.Diff(tt.want, kept); diff != "" {
				t.Errorf("kept with the deliveries (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.later, later); diff != "" {
				t.Errorf("kept afterwards (-want +got):\n%s", diff)
			}
			if again := mustPublish(t, p, tt.request()); tt.name != "no key" && tt.name != "batch of ids" && again != first {
				t.Errorf("answered %s, first %s", again, first)
			}
		})
	}
}

// The answer to what goes to backlogs, too, is kept when both are stored.
func TestAnswersToParkedEventsAreKeptLater(t *testing.T) {
	t.Parallel()
	p, store, queue, _ := setupParked(t, Options{})
	queue.answers = store
	mustPublish(t, p, keyed(single("", "{}"), "k", 1))
	if len(queue.keyed) != 0 || !store.claims["acme key:k"].done {
		t.Errorf("kept %+v with a part of the deliveries, or not at all", queue.keyed)
	}
}
