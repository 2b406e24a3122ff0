package publish

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// unmovedQueue compares versions with the store's.
type unmovedQueue struct {
	*stubQueue
	store *stubStore
	fail  error
	tries int
}

func (q *unmovedQueue) EnqueueUnmoved(ctx context.Context, ds []core.Delivery, organization, version string) ([]error, bool) {
	q.tries++
	q.store.mu.Lock()
	now := q.store.versions[organization]
	q.store.mu.Unlock()
	if now == "" || now != version {
		return nil, false
	}
	if q.fail != nil {
		return slices.Repeat([]error{q.fail}, len(ds)), true
	}
	return q.EnqueueKeyed(ctx, ds, nil), true
}

// unnamed are events without ids of their own, so that there is nothing to claim.
func unnamed(types ...string) *Request {
	items := make([]Item, len(types))
	for i, t := range types {
		items[i] = Item{Type: t, Body: []byte("{}")}
	}
	return request(items...)
}

// Once a snapshot is at hand, small flushes of one organization read no version, until
// it has moved.
func TestUnmoved(t *testing.T) {
	t.Parallel()
	store := newStubStore()
	queue := &unmovedQueue{stubQueue: &stubQueue{}, store: store}
	store.subscribe("acme", "a", "call.qualified", "lead.created")
	store.subscribe("acme", "b", "lead.created")
	p := start(t, Options{Store: store, Queue: queue.stubQueue, Unmoved: queue})
	one, wide := []string{"call.qualified"}, slices.Repeat([]string{"call.qualified"}, maxUnmoved+1)
	for _, step := range []struct {
		name   string
		change func()
		types  []string
		key    string
		stored []string // endpoints
		begins int      // in all
		tries  int      // in all
	}{
		{name: "nothing is known", types: one, stored: []string{"a"}, begins: 1},
		{name: "known", types: one, stored: []string{"a"}, begins: 1, tries: 1},
		{name: "several", types: []string{"call.qualified", "lead.created"}, stored: []string{"a", "a", "b"}, begins: 1, tries: 2},
		{name: "moved", change: func() { store.disable("acme", 0) }, types: []string{"lead.created"}, stored: []string{"b"}, begins: 2, tries: 3},
		{name: "known again", types: []string{"lead.created"}, stored: []string{"b"}, begins: 2, tries: 4},
		{name: "nobody gets it", types: one, begins: 3, tries: 4},
		{name: "one of several is for nobody", types: []string{"lead.created", "call.qualified"}, stored: []string{"b"}, begins: 4, tries: 4},
		{name: "a key", types: []string{"lead.created"}, key: "k", stored: []string{"b"}, begins: 5, tries: 4},
		{name: "new endpoint", change: func() { store.subscribe("acme", "c", "call.qualified") }, types: one, stored: []string{"c"}, begins: 6, tries: 4},
		{name: "one that parks", change: func() { store.change("acme", 2, func(e *core.Endpoint) { e.FIFO = true }) }, types: one, begins: 7, tries: 5},
		{name: "it still does", types: one, begins: 8, tries: 5},
		{name: "it does no more", change: func() { store.change("acme", 2, func(e *core.Endpoint) { e.FIFO = false }) }, types: wide, stored: slices.Repeat([]string{"c"}, maxUnmoved+1), begins: 9, tries: 5},
		{name: "too many", types: wide, stored: slices.Repeat([]string{"c"}, maxUnmoved+1), begins: 10, tries: 5},
		{name: "the version is lost", change: func() { store.mu.Lock(); delete(store.versions, "acme"); store.mu.Unlock() }, types: []string{"lead.created"}, stored: []string{"b"}, begins: 11, tries: 6},
	} {
		if step.change != nil {
			step.change()
		}
		before := len(queue.stored())
		r := unnamed(step.types...)
		if step.key != "" {
			r = keyed(r, step.key, 1)
		}
		mustPublish(t, p, r)
		var endpoints []string
		for _, calls := range queue.calls {
			for _, d := range calls {
				endpoints = append(endpoints, d.Endpoint)
			}
		}
		if diff := cmp.Diff(step.stored, append([]string(nil), endpoints[before:]...)); diff != "" {
			t.Errorf("%s: stored (-want +got):\n%s", step.name, diff)
		}
		if len(store.begins) != step.begins || queue.tries != step.tries {
			t.Errorf("%s: %d begins and %d tries in all; want %d and %d", step.name, len(store.begins), queue.tries, step.begins, step.tries)
		}
	}
}

// What is not confirmed is unavailable, and not stored another time.
func TestUnmovedUnconfirmed(t *testing.T) {
	t.Parallel()
	store := newStubStore()
	queue := &unmovedQueue{stubQueue: &stubQueue{}, store: store}
	store.subscribe("acme", "a", "call.qualified")
	p := start(t, Options{Store: store, Queue: queue.stubQueue, Unmoved: queue})
	mustPublish(t, p, unnamed("call.qualified"))
	queue.fail = core.Unavailable("the queue did not confirm", errors.New("lost"))
	if _, err := p.Publish(unnamed("call.qualified")); core.CodeOf(err) != core.CodeUnavailable {
		t.Errorf("%v; want it to be unavailable", err)
	}
	if n := len(queue.stored()); n != 1 || len(store.begins) != 1 {
		t.Errorf("%d are stored after %d begins; want 1 after 1", n, len(store.begins))
	}
}
