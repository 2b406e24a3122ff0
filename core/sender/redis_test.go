package sender

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/redisstore"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// realPatience bounds every wait of the tests on a real Redis and a real clock.
const realPatience = time.Minute

// realStore returns a store on a Redis of the test's own.
func realStore(t *testing.T, change func(*redisstore.Options)) *redisstore.Store {
	t.Helper()
	at, err := redisstore.ParseURL(redistest.Start(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	o := redisstore.Options{Client: redisstore.Open(at, redisstore.ProfileStore)}
	t.Cleanup(func() { o.Client.Close() })
	if change != nil {
		change(&o)
	}
	store, err := redisstore.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// on returns a sender on a real store, with a poster that others may use too.
func on(t *testing.T, store *redisstore.Store, poster *stubPoster) *fixture {
	t.Helper()
	return newFixture(t, func(o *Options) { o.Store, o.Client = store, poster })
}

// endpointIn adds an endpoint to a real store.
func (f *fixture) endpointIn(store *redisstore.Store, n int, change func(*core.Endpoint)) core.EndpointRef {
	f.t.Helper()
	ref := f.endpoint(n)
	e := f.store.endpoints[ref]
	change(&e)
	if err := store.CreateEndpoint(context.Background(), &e, 1000); err != nil {
		f.t.Fatal(err)
	}
	return ref
}

// fresh returns n deliveries for ref whose events are numbered from first.
func (f *fixture) fresh(ref core.EndpointRef, first, n int) []core.Delivery {
	b := f.bundle(slices.Repeat([]core.EndpointRef{ref}, n)...)
	for i := range b.Deliveries {
		d := &b.Deliveries[i]
		d.ID = fmt.Sprintf("whd_%s_%05d", ref.ID[len(ref.ID)-4:], first+i)
		d.Event.ID = fmt.Sprintf("evt_%s_%05d", ref.ID[len(ref.ID)-4:], first+i)
	}
	return b.Deliveries
}

// await returns once ok holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(realPatience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", realPatience, what)
		}
	}
}

// sent returns the events that were sent, in that order.
func (p *stubPoster) sent() []string {
	var ids []string
	for _, r := range p.all() {
		ids = append(ids, r.header.Get("Webhook-Id"))
	}
	return ids
}

// Two senders share the backlogs of many endpoints while more is parked, and one of
// them ends under way: every delivery is sent once, and nothing is left behind.
func TestDrainsOnRedis(t *testing.T) {
	t.Parallel()
	const endpoints, each, chunk = 16, 60, 10
	store, poster := realStore(t, nil), &stubPoster{}
	var fails sync.Map // events whose attempt fails
	poster.answer = func(r request) egress.Result {
		time.Sleep(time.Millisecond)
		if _, bad := fails.Load(r.header.Get("Webhook-Id")); bad {
			return egress.Result{Status: 500}
		}
		return egress.Result{Status: 200}
	}
	first, second := on(t, store, poster), on(t, store, poster)
	var refs []core.EndpointRef
	fifo := make(map[core.EndpointRef]bool)
	for n := range endpoints {
		ref := first.endpointIn(store, n, func(e *core.Endpoint) {
			e.FIFO = n%4 == 0
			if n%4 == 1 {
				e.MaxInFlight = 2
			}
		})
		refs, fifo[ref] = append(refs, ref), n%4 == 0
	}

	stopFirst, stopSecond := first.start(), second.start()
	var parking sync.WaitGroup
	var want []string
	for _, ref := range refs {
		ds := first.fresh(ref, 0, each)
		for i := range ds {
			want = append(want, ds[i].Event.ID)
			if i%20 == 7 && !fifo[ref] {
				fails.Store(ds[i].Event.ID, true)
			}
		}
		parking.Go(func() {
			for part := range slices.Chunk(ds, chunk) {
				if _, err := store.Park(context.Background(), []core.Parking{{Endpoint: ref, Deliveries: part}}); err != nil {
					t.Error(err)
				}
				time.Sleep(5 * time.Millisecond) // some of it is drained meanwhile
			}
		})
	}
	await(t, "a third is sent", func() bool { return len(poster.all()) >= len(want)/3 })
	stopFirst()
	early := len(poster.all())
	parking.Wait()
	var left core.BacklogOverview
	await(t, "nothing waits", func() bool {
		var err error
		if left, err = store.BacklogOverview(context.Background()); err != nil {
			t.Fatal(err)
		}
		return left.Endpoints == 0
	})
	stopSecond()
	if early >= len(want) {
		t.Errorf("all %d were sent before the first sender ended", early)
	}
	if left.Deliveries != 0 || left.Bytes != 0 || left.Claimed != 0 || left.Conditions != 0 {
		t.Errorf("left behind: %+v", left)
	}

	got := poster.sent()
	for _, ref := range refs {
		if !fifo[ref] {
			continue
		}
		mine := slices.DeleteFunc(slices.Clone(got), func(id string) bool { return id[:8] != "evt_"+ref.ID[len(ref.ID)-4:] })
		if !slices.IsSorted(mine) {
			t.Errorf("endpoint %s got %v", ref.ID, mine)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d requests, %d different ones; want each of %d deliveries once", len(got), len(slices.Compact(slices.Clone(got))), len(want))
	}
	failed := 0
	fails.Range(func(any, any) bool { failed++; return true })
	if n := len(first.queue.retries()) + len(second.queue.retries()); n != failed {
		t.Errorf("%d retries; want one for each of %d that failed", n, failed)
	}
	for _, ref := range refs {
		if rows, err := store.Attempts(context.Background(), ref.ID, false); err != nil || len(rows) != each {
			t.Errorf("%d rows of endpoint %s, %v; want %d", len(rows), ref.ID, err, each)
		}
	}
}

// Of an endpoint that is deleted while its backlog flows nothing more is sent once
// its records are too old, and nothing is left.
func TestDeletedOnRedis(t *testing.T) {
	t.Parallel()
	store, poster := realStore(t, nil), &stubPoster{}
	poster.answer = func(request) egress.Result {
		time.Sleep(5 * time.Millisecond)
		return egress.Result{Status: 200}
	}
	f := on(t, store, poster)
	ref := f.endpointIn(store, 1, func(e *core.Endpoint) { e.MaxInFlight = 2 })
	if _, err := store.Park(t.Context(), []core.Parking{{Endpoint: ref, Deliveries: f.fresh(ref, 0, 1000)}}); err != nil {
		t.Fatal(err)
	}
	stop := f.start()
	await(t, "some are sent", func() bool { return len(poster.all()) >= 20 })
	if err := store.DeleteEndpoint(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	deleted := time.Now()
	time.Sleep(core.ChangeDelay) // as the API does
	if err := store.ForgetEndpoint(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	await(t, "nothing waits", func() bool {
		left, err := store.BacklogOverview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return left.Endpoints == 0 && left.Deliveries == 0
	})
	await(t, "the drain is over", func() bool { return len(f.drains) == 0 })
	stop()
	requests := poster.all()
	if len(requests) == 1000 {
		t.Error("all were sent before the deletion")
	}
	for _, r := range requests {
		if late := r.at.Sub(deleted); late > core.ChangeDelay {
			t.Errorf("a request %v after the deletion", late)
		}
	}
	if standings, err := store.Standings(t.Context(), []core.EndpointRef{ref}); err != nil || standings[0] != (core.Standing{}) {
		t.Errorf("standing = %+v, %v; want nothing", standings, err)
	}
	if rows, err := store.Attempts(t.Context(), ref.ID, false); err != nil || len(rows) != 0 {
		t.Errorf("%d rows, %v; want none: the log was removed", len(rows), err)
	}
}

// What a full backlog cannot keep become dead letters, the oldest ones.
func TestOverflowOnRedis(t *testing.T) {
	t.Parallel()
	const most, parked = 200, 500
	store, poster := realStore(t, func(o *redisstore.Options) { o.MaxBacklog = most }), &stubPoster{}
	f := on(t, store, poster)
	ref := f.endpointIn(store, 1, func(e *core.Endpoint) { e.Enabled, e.Drop = false, false })
	stop := f.start()
	for first := 0; first < parked; first += 100 {
		p := core.Parking{Endpoint: ref, Due: time.Now().Add(core.HeldLook), Deliveries: f.fresh(ref, first, 100)}
		if _, err := store.Park(t.Context(), []core.Parking{p}); err != nil {
			t.Fatal(err)
		}
	}
	var letters []core.KeptLetter
	await(t, "the oldest are dead letters", func() bool {
		var err error
		if letters, _, err = store.DeadLetters(t.Context(), ref, "", parked); err != nil {
			t.Fatal(err)
		}
		return len(letters) >= parked-most
	})
	stop()
	standings, err := store.Standings(t.Context(), []core.EndpointRef{ref})
	if err != nil {
		t.Fatal(err)
	}
	if len(letters) != parked-most || standings[0].Backlog != most {
		t.Errorf("%d dead letters, %d wait; want %d and %d", len(letters), standings[0].Backlog, parked-most, most)
	}
	for _, l := range letters {
		if l.Reason != core.ReasonOverflow || l.Delivery.Event.ID >= fmt.Sprintf("evt_0001_%05d", parked-most) {
			t.Errorf("a dead letter of %s for %s", l.Delivery.Event.ID, l.Reason)
		}
	}
	if n := len(poster.all()); n != 0 {
		t.Errorf("%d requests to a disabled endpoint", n)
	}
}
