package redisstore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// parcels returns n deliveries to an endpoint, each of an event of its own whose
// body has size random bytes.
func parcels(ref core.EndpointRef, n, size int) []core.Delivery {
	ds := make([]core.Delivery, n)
	for i := range ds {
		var body []byte
		for len(body) < size {
			body = append(body, core.NewToken()...)
		}
		ds[i] = core.Delivery{
			ID: core.NewDeliveryID(instant(i)), Organization: ref.Organization, Endpoint: ref.ID, Attempts: i % 3,
			Event: &core.Event{ID: core.NewEventID(instant(i)), Type: "call.received", Body: body[:size], AcceptedAt: instant(i)},
		}
	}
	return ds
}

// What is parked under a reservation is noted with it, by each script its own part, and
// nothing is parked under one that another request holds by now.
func TestParkNotes(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ref, other := endpoint("acme", 1).Ref(), endpoint("acme", 2).Ref()
	ds, few := parcels(ref, maxParkChunk+44, 10), parcels(other, 2, 10)
	for i := range ds {
		ds[i].Event.Index = i
	}
	a, b, lost := reservation("a", "1", "body"), reservation("b", "1", "body"), reservation("lost", "1", "body")
	for _, r := range []core.Reservation{a, b, lost} {
		begin(t, s, r)
	}
	keyed := []core.Keyed{{Reservation: a, From: 0, To: 100}, {Reservation: b, From: 150, To: len(ds)}}
	park(t, s, core.Parking{Endpoint: ref, Deliveries: ds, Keyed: keyed}, core.Parking{Endpoint: other, Deliveries: few})
	for _, k := range keyed {
		heir := k.Reservation
		heir.Owner = "2"
		endLease(t, client, k.Key)
		want := make(core.Stored)
		for i := k.From; i < k.To; i++ {
			want[i] = map[string]struct{}{ref.ID: {}}
		}
		if diff := cmp.Diff(want, begin(t, s, heir).Stored); diff != "" {
			t.Errorf("noted with %s (-want +got):\n%s", k.Key, diff)
		}
	}
	waiting := len(backlog(t, s, ref))
	endLease(t, client, "lost")
	begin(t, s, reservation("lost", "2", "body"))
	parked, err := s.Park(t.Context(), []core.Parking{
		{Endpoint: ref, Deliveries: ds[:3], Keyed: []core.Keyed{{Reservation: b, From: 0, To: 1}, {Reservation: lost, From: 1, To: 2}}},
		{Endpoint: other, Deliveries: few},
	})
	if err == nil || len(backlog(t, s, ref)) != waiting || parked[0].Stored || !parked[1].Stored {
		t.Errorf("parked %+v, error %v, under a reservation that is another's", parked, err)
	}
}

func park(t *testing.T, s *Store, ps ...core.Parking) []core.Parked {
	t.Helper()
	parked, err := s.Park(t.Context(), ps)
	noError(t, err)
	return parked
}

// claim claims everything that is due and returns it by endpoint.
func claim(t *testing.T, s *Store) map[core.EndpointRef]core.Claim {
	t.Helper()
	claims, _, err := s.ClaimBacklogs(t.Context(), 1000)
	noError(t, err)
	byRef := make(map[core.EndpointRef]core.Claim)
	for _, c := range claims {
		byRef[c.Endpoint] = c
	}
	return byRef
}

// claimOne claims everything that is due, which has to be one.
func claimOne(t *testing.T, s *Store, ref core.EndpointRef) core.Claim {
	t.Helper()
	claims := claim(t, s)
	c, ok := claims[ref]
	if !ok || len(claims) != 1 {
		t.Fatalf("claimed %v; want %v alone", claims, ref)
	}
	return c
}

func idle(t *testing.T, s *Store) {
	t.Helper()
	if claims := claim(t, s); len(claims) != 0 {
		t.Fatalf("claimed %v; want nothing to be due", claims)
	}
}

func backlog(t *testing.T, s *Store, ref core.EndpointRef) []core.Waiting {
	t.Helper()
	waiting, err := s.Backlog(t.Context(), ref, "", 100_000)
	noError(t, err)
	return waiting
}

func deliveriesOf(waiting []core.Waiting) []core.Delivery {
	ds := make([]core.Delivery, 0, len(waiting))
	for _, w := range waiting {
		ds = append(ds, w.Delivery)
	}
	return ds
}

// drain removes entries as a sender does that has settled them.
func drain(t *testing.T, s *Store, ref core.EndpointRef, entries ...core.Waiting) {
	t.Helper()
	noError(t, s.Record(t.Context(), core.Record{Drained: core.Drained{Endpoint: ref, Entries: entries}}))
}

// dueIn returns how far in the future an endpoint's next look is, by the clock of
// Redis.
func dueIn(t *testing.T, s *Store, ref core.EndpointRef) time.Duration {
	t.Helper()
	score, err := s.client.ZScore(t.Context(), waitingKey, memberOf(ref)).Result()
	noError(t, err)
	now, err := s.client.Time(t.Context()).Result()
	noError(t, err)
	return time.UnixMilli(int64(score)).Sub(now)
}

// makeDue makes the next look at an endpoint due, as time would.
func makeDue(t *testing.T, s *Store, ref core.EndpointRef) {
	t.Helper()
	noError(t, s.client.ZAdd(t.Context(), waitingKey, redis.Z{Score: 1, Member: memberOf(ref)}).Err())
}

// rings returns how often the bell has rung, and empties it.
func rings(t *testing.T, s *Store) int64 {
	t.Helper()
	n, err := s.client.LLen(t.Context(), backlogBellKey).Result()
	noError(t, err)
	noError(t, s.client.Del(t.Context(), backlogBellKey).Err())
	return n
}

var sameBytes = cmp.Comparer(bytes.Equal)

func TestParkedIsDrainedInOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a, b := endpoint("acme", 1).Ref(), endpoint("with/slash", 2).Ref()
		first, second, others := parcels(a, 300, 10), parcels(a, 2, 1000), parcels(b, 1, 10)
		park(t, s, core.Parking{Endpoint: a, Deliveries: first}, core.Parking{Endpoint: b, Deliveries: others})
		park(t, s, core.Parking{Endpoint: a, Deliveries: second})
		claims := claim(t, s)
		if len(claims) != 2 || claims[a].Owner == "" || claims[b].Condition != (core.Condition{}) {
			t.Fatalf("claims %+v", claims)
		}
		want := slices.Concat(first, second)
		if diff := cmp.Diff(want, deliveriesOf(backlog(t, s, a)), sameBytes); diff != "" {
			t.Fatalf("backlog (-want +got):\n%s", diff)
		}
		var got []core.Delivery
		for after := ""; ; {
			waiting, err := s.Backlog(ctx, a, after, 7)
			noError(t, err)
			if len(waiting) == 0 {
				break
			}
			after, got = waiting[len(waiting)-1].Entry, append(got, deliveriesOf(waiting)...)
			drain(t, s, a, waiting...)
		}
		if diff := cmp.Diff(want, got, sameBytes); diff != "" {
			t.Errorf("drained (-want +got):\n%s", diff)
		}
		for _, c := range claims {
			released, err := s.ReleaseClaim(ctx, core.Release{Claim: c, OnlyEmpty: true})
			noError(t, err)
			if released != (c.Endpoint == a) {
				t.Errorf("released %v: %t", c.Endpoint, released)
			}
		}
		drain(t, s, b, backlog(t, s, b)...)
		if released, err := s.ReleaseClaim(ctx, core.Release{Claim: claims[b], OnlyEmpty: true}); !released || err != nil {
			t.Errorf("released: %t, %v", released, err)
		}
		left := s.client.Keys(ctx, "sp:*").Val()
		slices.Sort(left)
		if diff := cmp.Diff([]string{backlogBellKey, totalsKey}, left); diff != "" {
			t.Errorf("keys that are left (-want +got):\n%s", diff)
		}
		if v, err := s.BacklogOverview(ctx); err != nil || v.Deliveries != 0 || v.Bytes != 0 {
			t.Errorf("overview %+v, %v; want nothing", v, err)
		}
	})
}

func TestBacklogReadIsBounded(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	ref := endpoint("acme", 1).Ref()
	ds := slices.Concat(parcels(ref, 20, 10), parcels(ref, 11, 1<<20), parcels(ref, 20, 10))
	park(t, s, core.Parking{Endpoint: ref, Deliveries: ds})
	var got []core.Delivery
	for after := ""; ; {
		waiting, err := s.Backlog(t.Context(), ref, after, 1000)
		noError(t, err)
		if len(waiting) == 0 {
			break
		}
		bytes := 0
		for _, w := range waiting {
			bytes += w.Size
		}
		if most := maxBacklogRead + waiting[len(waiting)-1].Size; bytes >= most {
			t.Errorf("%d bytes in one read; want less than %d", bytes, most)
		}
		after, got = waiting[len(waiting)-1].Entry, append(got, deliveriesOf(waiting)...)
	}
	if diff := cmp.Diff(ds, got, sameBytes); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

func TestUndecodableEntryStays(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	ref := endpoint("acme", 1).Ref()
	park(t, s, core.Parking{Endpoint: ref, Deliveries: parcels(ref, 2, 10)})
	newer, err := client.XAdd(ctx, &redis.XAddArgs{Stream: backlogKey(ref.ID), Values: []any{"d", "\x7f newer"}}).Result()
	noError(t, err)
	park(t, s, core.Parking{Endpoint: ref, Deliveries: parcels(ref, 1, 10)})
	before := backlog(t, s, ref)
	if len(before) != 2 {
		t.Fatalf("%d entries before the one that cannot be read; want 2", len(before))
	}
	_, err = s.Backlog(ctx, ref, before[1].Entry, 10)
	if !errors.Is(err, frame.ErrUndecodable) || !bytes.Contains([]byte(err.Error()), []byte(newer)) {
		t.Errorf("an entry that cannot be read: %v; want an undecodable error that names %s", err, newer)
	}
	if n := client.XLen(ctx, backlogKey(ref.ID)).Val(); n != 4 {
		t.Errorf("%d entries are left; want all 4", n)
	}
}

func TestExcess(t *testing.T) {
	t.Parallel()
	s, _ := setup(t, func(o *Options) { o.MaxBacklog, o.MaxBacklogBytes = 600, 100_000 })
	a, b := endpoint("acme", 1).Ref(), endpoint("acme", 2).Ref()
	for i, step := range []struct {
		ref         core.EndpointRef
		n, size     int
		least, most int
	}{
		{a, 600, 10, 0, 0}, {a, 1, 10, 1, 1}, {a, 9, 10, 10, 10}, {a, 0, 0, 10, 10},
		{b, 9, 10_000, 0, 0}, {b, 3, 10_000, 2, 3}, {b, 1, 1_000_000, 11, 13},
	} {
		parked := park(t, s, core.Parking{Endpoint: step.ref, Deliveries: parcels(step.ref, step.n, step.size)})
		if got := parked[0].Excess; got < step.least || got > step.most {
			t.Errorf("step %d: excess %d; want %d to %d", i, got, step.least, step.most)
		}
	}
	// Somebody has to look, although the next look was not due before long.
	c := core.EndpointRef{Organization: "acme", ID: core.NewEndpointID()}
	later := time.Now().Add(time.Hour)
	for _, n := range []int{600, 1} {
		claims, _, err := s.ClaimBacklogs(t.Context(), 10)
		noError(t, err)
		if slices.ContainsFunc(claims, func(claim core.Claim) bool { return claim.Endpoint == c }) {
			t.Errorf("claimed before %d more were parked", n)
		}
		park(t, s, core.Parking{Endpoint: c, Due: later, Deliveries: parcels(c, n, 10)})
	}
	if claims, _, err := s.ClaimBacklogs(t.Context(), 10); err != nil || len(claims) != 1 || claims[0].Endpoint != c {
		t.Errorf("claims %+v, %v; want the backlog that is above its bound", claims, err)
	}
}

func TestDrainedRepeatedly(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		ref := endpoint("acme", 1).Ref()
		park(t, s, core.Parking{Endpoint: ref, Deliveries: parcels(ref, 3, 100)})
		waiting := backlog(t, s, ref)
		r := core.Record{
			Attempts: []core.Attempt{attempt(ref.ID, 1, core.StatusDelivered)},
			Drained:  core.Drained{Endpoint: ref, Entries: waiting[:2]},
		}
		for range 3 {
			noError(t, s.Record(ctx, r))
			r.Repeated = true
		}
		if diff := cmp.Diff(waiting[2:], backlog(t, s, ref), sameBytes); diff != "" {
			t.Errorf("backlog (-want +got):\n%s", diff)
		}
		if rows, err := s.Attempts(ctx, ref.ID, false); err != nil || len(rows) != 1 {
			t.Errorf("%d rows, %v; want 1", len(rows), err)
		}
		v, err := s.BacklogOverview(ctx)
		noError(t, err)
		if v.Deliveries != 1 || v.Bytes != int64(waiting[2].Size) || s.client.HGet(ctx, sizesKey, ref.ID).Val() != fmt.Sprint(v.Bytes) {
			t.Errorf("overview %+v; want one delivery of %d bytes", v, waiting[2].Size)
		}
	})
}

// A Redis that is full lets deliveries leave a backlog, at the second try, with their
// rows: that makes room.
func TestLeaveFullRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.URL()), server.Client(t)
	ref := core.EndpointRef{Organization: "acme", ID: "e"}
	park(t, s, core.Parking{Endpoint: ref, Deliveries: parcels(ref, 3, 10)})
	waiting, err := s.Backlog(t.Context(), ref, "", 3)
	noError(t, err)
	noError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	r := core.Record{Drained: core.Drained{Endpoint: ref, Entries: waiting[:2]}}
	for i := range waiting[:2] {
		d := &waiting[i].Delivery
		r.Attempts = append(r.Attempts, core.Attempt{
			Delivery: d.ID, Event: d.Event.ID, EventType: d.Event.Type, Endpoint: ref.ID, Number: d.Attempts + 1,
			Status: core.StatusDelivered, ResponseStatus: 204, StartedAt: instant(i),
		})
	}
	if err := s.Record(t.Context(), r); err == nil {
		t.Fatal("Record succeeded in a Redis that is full: this test proves nothing")
	}
	r.Repeated = true
	noError(t, s.Record(t.Context(), r))
	noError(t, s.Record(t.Context(), r))
	left, err := s.Backlog(t.Context(), ref, "", 3)
	noError(t, err)
	if len(left) != 1 || left[0].Entry != waiting[2].Entry {
		t.Errorf("%d wait; want the third one", len(left))
	}
	rows, err := s.Attempts(t.Context(), ref.ID, false)
	noError(t, err)
	if len(rows) != 2 || rows[0].Delivery != waiting[1].Delivery.ID || rows[1].Delivery != waiting[0].Delivery.ID {
		t.Errorf("rows %+v; want one for each that left", rows)
	}
}
