package publish

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

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
	if len(queue.keyed) != 1 || queue.keyed[0].Answer != nil || !store.claims["acme key:k"].done {
		t.Errorf("kept %+v with a part of the deliveries, or not at all", queue.keyed)
	}
}

// storedBy returns "event endpoint" of what is in the queue and in b's backlog, sorted.
func storedBy(queue *stubQueue, backlog *stubBacklog) []string {
	stored := queue.stored()
	for _, id := range backlog.of("b") {
		stored = append(stored, id+" b")
	}
	slices.Sort(stored)
	return stored
}

// Who takes over a request of which a part is stored, in the queue or in backlogs,
// stores the rest and answers for all, though endpoints have come and gone meanwhile.
func TestTakenOverInPart(t *testing.T) {
	t.Parallel()
	ided := func(id string) Item { it := item(0); it.ID = id; return it }
	for _, tt := range []struct {
		name    string
		request func() *Request
		refused []int // deliveries to a, of the first try
		park    bool  // b and c are refused, too
		want    []string
		answer  string
	}{
		{"header, queue", func() *Request { return keyed(single("1", "{}"), "k", 1) }, []int{0}, false,
			[]string{"1 a", "1 d"}, `{"id":"1","deliveries":4}`},
		{"header, backlogs", func() *Request { return keyed(single("1", "{}"), "k", 1) }, nil, true,
			[]string{"1 b", "1 d"}, `{"id":"1","deliveries":3}`},
		{"batch, queue", func() *Request { return keyed(request(ided("1"), ided("2"), ided("3")), "k", 1) }, []int{1}, false,
			[]string{"1 d", "2 a", "2 d", "3 d"}, `{"data":[{"id":"1","deliveries":4},{"id":"2","deliveries":4},{"id":"3","deliveries":4}]}`},
		{"id", func() *Request { return single("1", "{}") }, []int{0}, false,
			[]string{"1 a", "1 d"}, `{"id":"1","deliveries":4}`},
		{"batch of ids", func() *Request { return request(ided("1"), ided("2")) }, []int{0, 1}, false,
			[]string{"1 a", "1 d", "2 a", "2 d"}, `{"data":[{"id":"1","deliveries":4},{"id":"2","deliveries":4}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, store, queue, backlog := setupParked(t, Options{})
				queue.answers, backlog.notes = store, store
				queue.enqueueFunc = refuse(tt.refused...)
				if tt.refused == nil {
					queue.enqueueFunc = nil
				}
				backlog.parkFunc = func(context.Context, []core.Parking) error {
					if tt.park {
						return errRedis
					}
					return nil
				}
				_, err := p.Publish(tt.request())
				wantCode(t, err, core.CodeUnavailable)
				queue.calls, queue.enqueueFunc, backlog.calls, backlog.parkFunc = nil, nil, nil, nil
				store.subscribe("acme", "d", "call.qualified")
				store.disable("acme", 2) // c has gone
				time.Sleep(core.ReservationLease)
				if got := mustPublish(t, p, tt.request()); got != tt.answer {
					t.Errorf("answered %s, want %s", got, tt.answer)
				}
				if diff := cmp.Diff(tt.want, storedBy(queue, backlog)); diff != "" {
					t.Errorf("stored the second time (-want +got):\n%s", diff)
				}
				if got := mustPublish(t, p, tt.request()); got != tt.answer {
					t.Errorf("then answered %s, want %s", got, tt.answer)
				}
			})
		})
	}
}

// An event's own key may come again at another place, in another batch or alone: what
// is stored under it is never taken for a part of its new neighbours.
func TestTakenOverElsewhere(t *testing.T) {
	t.Parallel()
	ided := func(id string) Item { it := item(0); it.ID = id; return it }
	for _, tt := range []struct {
		name          string
		first, second []Item
		want          []string
	}{
		{"another batch", []Item{ided("1"), ided("2")}, []Item{ided("2"), ided("3")}, []string{"3 a", "3 b"}},
		{"alone, then in a batch", []Item{ided("1")}, []Item{ided("2"), ided("1")}, []string{"2 a", "2 b"}},
		{"in a batch, then alone", []Item{ided("1"), ided("2")}, []Item{ided("2")}, nil},
		{"twice in a batch", []Item{ided("1")}, []Item{ided("1"), ided("2"), ided("1")}, []string{"2 a", "2 b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, store, queue, backlog := setupParked(t, Options{})
				store.disable("acme", 2)
				queue.answers, backlog.notes = store, store
				store.finishFunc = func(context.Context, []core.Reservation) error { return errRedis }
				mustPublish(t, p, request(tt.first...))
				store.finishFunc, queue.calls, backlog.calls = nil, nil, nil
				time.Sleep(core.ReservationLease)
				mustPublish(t, p, request(tt.second...))
				if diff := cmp.Diff(tt.want, storedBy(queue, backlog)); diff != "" {
					t.Errorf("stored the second time (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What is stored already does not count against what one request may make.
func TestTakenOverCountsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, store, queue, backlog := setupParked(t, Options{MaxDeliveries: 3})
		queue.answers, backlog.notes = store, store
		backlog.parkFunc = func(context.Context, []core.Parking) error { return errRedis }
		_, err := p.Publish(keyed(single("1", "{}"), "k", 1))
		wantCode(t, err, core.CodeUnavailable)
		backlog.parkFunc = nil
		store.subscribe("acme", "d", "call.qualified")
		time.Sleep(core.ReservationLease)
		if got := mustPublish(t, p, keyed(single("1", "{}"), "k", 1)); got != `{"id":"1","deliveries":4}` {
			t.Errorf("answered %s", got)
		}
	})
}

// Who takes over a request of which all is stored has nothing to store, and still
// answers.
func TestTakenOverComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, store, queue, backlog := setupParked(t, Options{})
		queue.answers, backlog.notes = store, store
		store.finishFunc = func(context.Context, []core.Reservation) error { return errRedis }
		first := mustPublish(t, p, keyed(single("1", "{}"), "k", 1))
		store.finishFunc = nil
		time.Sleep(core.ReservationLease)
		for range 2 {
			if got := mustPublish(t, p, keyed(single("1", "{}"), "k", 1)); got != first {
				t.Errorf("answered %s, first %s", got, first)
			}
		}
		if len(queue.calls) != 1 || len(backlog.calls) != 1 {
			t.Errorf("%d Enqueues and %d Parks, want one of each", len(queue.calls), len(backlog.calls))
		}
	})
}
