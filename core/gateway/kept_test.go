package gateway

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore"
)

// setupKept starts servers on one real Redis: each keeps delivered deliveries for one of
// the retentions.
func setupKept(t *testing.T, retentions ...time.Duration) []*letterFixture {
	t.Helper()
	f, redis, _ := setupRedis(t)
	ref := core.EndpointRef{Organization: "acme", ID: f.subscribe("lead.created").ID}
	at, err := redisstore.ParseURL(redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redisstore.Open(at, redisstore.ProfileStore)
	t.Cleanup(func() { client.Close() })
	out := make([]*letterFixture, len(retentions))
	for i, retention := range retentions {
		store, err := redisstore.New(redisstore.Options{Client: client, PayloadRetention: retention})
		if err != nil {
			t.Fatal(err)
		}
		g := setup(t, func(o *Options) { o.Store, o.Keys = store, store })
		g.key = f.key
		out[i] = &letterFixture{fixture: g, store: store, ref: ref, item: "/api/v1/webhooks/" + ref.ID, born: time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)}
	}
	return out
}

// deliver records a delivery as delivered.
func (f *letterFixture) deliver(d core.Delivery) {
	f.t.Helper()
	f.must(f.store.Record(f.t.Context(), core.Record{
		Attempts: []core.Attempt{{
			Delivery: d.ID, Event: d.Event.ID, EventType: d.Event.Type, Endpoint: d.Endpoint, Number: 12, Status: core.StatusDelivered, StartedAt: time.Now(),
		}},
		Kept: []core.Delivery{d},
	}))
}

func TestReplayDelivered(t *testing.T) {
	t.Parallel()
	fixtures := setupKept(t, time.Hour, time.Nanosecond, 0)
	f, briefly, never := fixtures[0], fixtures[1], fixtures[2]
	d, lost, old := f.delivery(1), f.delivery(2), f.delivery(3)
	old.Event.MaxAge = time.Second
	f.deliver(d)
	never.deliver(lost)
	f.deliver(old)
	path := f.item + "/deliveries/" + d.ID + "/replay"

	// What it is kept for may be repeated.
	var ids []string
	for range 2 {
		var got replayedJSON
		f.call("POST", path, "").want(202, "").decode(&got)
		held := false
		if diff := cmp.Diff(replayedJSON{ID: got.ID, ReplayOf: d.ID, EventID: d.Event.ID, Held: &held}, got); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
		ids = append(ids, got.ID)
	}
	waiting := f.waiting()
	if len(waiting) != 2 || ids[0] == ids[1] {
		t.Fatalf("%d wait under %q, want two", len(waiting), ids)
	}
	for i, w := range waiting {
		want := core.Delivery{ID: ids[i], Organization: "acme", Endpoint: f.ref.ID, Event: d.Event}
		if diff := cmp.Diff(want, w); diff != "" {
			t.Errorf("waiting (-want +got):\n%s", diff)
		}
	}

	f.call("POST", f.item+"/deliveries/"+lost.ID+"/replay", "").want(409, core.CodePayloadExpired).detail("succeeded")
	f.call("POST", f.item+"/deliveries/"+old.ID+"/replay", "").want(409, core.CodeConflict).detail("max_age")
	briefly.call("POST", path, "").want(409, core.CodePayloadExpired).detail("no longer")
	never.call("POST", path, "").want(409, core.CodePayloadExpired).detail("succeeded")

	f.call("PATCH", f.item, `{"enabled":false,"on_disable":"drop"}`).want(200, "")
	f.call("POST", path, "").want(409, core.CodeConflict).detail("disabled")
	f.call("PATCH", f.item, `{"on_disable":"hold"}`).want(200, "")
	var got replayedJSON
	if f.call("POST", path, "").want(202, "").decode(&got); got.Held == nil || !*got.Held {
		t.Errorf("answer %+v, want that it is held", got)
	}
	if n := len(f.waiting()); n != 3 {
		t.Errorf("%d deliveries wait, want 3", n)
	}
	f.call("DELETE", f.item, "").want(200, "")
	f.call("POST", path, "").want(404, core.CodeNotFound)
	if l, err := f.store.FindKept(t.Context(), f.ref, d.ID); l != nil || err != nil {
		t.Errorf("after the deletion %v, %v are kept", l, err)
	}
}
