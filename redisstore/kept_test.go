package redisstore

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// keeping has delivered deliveries kept.
func keeping(age time.Duration) func(*Options) {
	return func(o *Options) { o.PayloadRetention = age }
}

// keepEach records deliveries as delivered, one by one.
func keepEach(t *testing.T, s *Store, ds ...core.Delivery) {
	t.Helper()
	for i := range ds {
		noError(t, s.Record(t.Context(), core.Record{Kept: ds[i : i+1]}))
	}
}

// keptOf returns which of some deliveries of an endpoint are kept.
func keptOf(t *testing.T, s *Store, ds []core.Delivery) (kept []int) {
	t.Helper()
	for i := range ds {
		l, err := s.FindKept(t.Context(), ds[i].Ref(), ds[i].ID)
		noError(t, err)
		if l != nil {
			kept = append(kept, i)
		}
	}
	return kept
}

func (s *Store) unkept(bound string) float64 {
	return testutil.ToFloat64(s.metrics.unkept.WithLabelValues(bound))
}

func TestKeptRoundTrip(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a, b := deadLetter("a", 1, 100).Delivery, deadLetter("b", 2, 0).Delivery
		b.Event.Body = []byte{}
		r := core.Record{Attempts: []core.Attempt{attempt("a", 1, core.StatusDelivered)}, Kept: []core.Delivery{a, b, a}}
		for range 2 { // keeping is idempotent
			noError(t, s.Record(ctx, r))
			r.Repeated = true
		}
		for _, want := range []core.Delivery{a, b} {
			l, err := s.FindKept(ctx, want.Ref(), want.ID)
			noError(t, err)
			if l == nil {
				t.Fatalf("%s is not kept", want.ID)
			}
			if diff := cmp.Diff(want, l.Delivery); diff != "" || l.Size != len(want.Event.Body) {
				t.Errorf("%s, %d bytes (-want +got):\n%s", want.ID, l.Size, diff)
			}
			for _, key := range []string{keptKey(want.Endpoint), keptIndexKey(want.Endpoint)} {
				if ttl := s.client.PTTL(ctx, key).Val(); ttl > time.Hour || ttl < 59*time.Minute {
					t.Errorf("%s ends in %v; want an hour", key, ttl)
				}
			}
			if n := s.client.XLen(ctx, keptKey(want.Endpoint)).Val(); n != 1 {
				t.Errorf("%d entries of %s; want 1", n, want.Endpoint)
			}
		}
		if l, err := s.FindKept(ctx, a.Ref(), b.ID); l != nil || err != nil {
			t.Errorf("b's delivery at a: %v, %v", l, err)
		}
		if letters := lettersOf(t, s, "a"); len(letters) != 0 {
			t.Errorf("dead letters %v", letters)
		}
	}, keeping(time.Hour))
}

func TestNothingIsKeptByDefault(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	d := deadLetter("a", 1, 100).Delivery
	keepEach(t, s, d)
	if l, err := s.FindKept(t.Context(), d.Ref(), d.ID); l != nil || err != nil {
		t.Errorf("found %v, %v", l, err)
	}
	if keys := client.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("keys %q", keys)
	}
}

func TestKeptBounds(t *testing.T) {
	t.Parallel()
	entry := frameSize(t, deadLetter("a", 1, 100)) + 256
	tests := []struct {
		name    string
		options func(*Options)
		kept    []int
		bound   string
	}{
		{name: "count", options: func(o *Options) { o.MaxKept = 2 }, kept: []int{4, 5}, bound: boundCount},
		{name: "bytes", options: func(o *Options) { o.MaxKeptBytes = 2*entry + 1 }, kept: []int{4, 5}, bound: boundBytes},
		{name: "neither", options: func(*Options) {}, kept: []int{0, 1, 2, 3, 4, 5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, client := setup(t, keeping(time.Hour), tt.options)
			var ds []core.Delivery
			for n := range 6 {
				ds = append(ds, deadLetter("a", n, 100).Delivery)
			}
			keepEach(t, s, ds[:2]...)
			noError(t, s.Record(t.Context(), core.Record{Kept: ds[2:]}))
			if diff := cmp.Diff(tt.kept, keptOf(t, s, ds)); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			for _, bound := range keptBounds() {
				want := 0.0
				if bound == tt.bound {
					want = float64(6 - len(tt.kept))
				}
				if n := s.unkept(bound); n != want {
					t.Errorf("%v dropped because of %s; want %v", n, bound, want)
				}
			}
			if n := client.HLen(t.Context(), keptIndexKey("a")).Val(); n != int64(len(tt.kept)+1) {
				t.Errorf("the index has %d fields; want %d", n, len(tt.kept)+1)
			}
			if size := client.HGet(t.Context(), keptIndexKey("a"), ":bytes").Val(); size != fmt.Sprint(len(tt.kept)*entry) {
				t.Errorf("size %s; want that of %d", size, len(tt.kept))
			}
		})
	}
}

// What is older than the retention is not replayed any more, and goes with the next
// delivery.
func TestKeptExpires(t *testing.T) {
	t.Parallel()
	s, client := setup(t, keeping(time.Hour))
	ctx := t.Context()
	ds := []core.Delivery{deadLetter("a", 0, 100).Delivery, deadLetter("a", 1, 100).Delivery}
	keepEach(t, s, ds[0])
	// The stream's own ids are its clock.
	entry := client.XRange(ctx, keptKey("a"), "-", "+").Val()[0]
	old := fmt.Sprint(time.Now().Add(-61*time.Minute).UnixMilli()) + "-0"
	noError(t, client.Del(ctx, keptKey("a")).Err())
	noError(t, client.XAdd(ctx, &redis.XAddArgs{Stream: keptKey("a"), ID: old, Values: []any{"delivery", ds[0].ID, "d", entry.Values["d"]}}).Err())
	noError(t, client.HSet(ctx, keptIndexKey("a"), ds[0].ID, old).Err())

	_, err := s.FindKept(ctx, ds[0].Ref(), ds[0].ID)
	wantCode(t, err, core.CodePayloadExpired)
	keepEach(t, s, ds[1])
	if diff := cmp.Diff([]int{1}, keptOf(t, s, ds)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if n := client.XLen(ctx, keptKey("a")).Val(); n != 1 || s.unkept(boundCount)+s.unkept(boundBytes) != 0 {
		t.Errorf("%d entries, or what was old enough is counted as dropped", n)
	}
}

// A Redis that is full refuses what is to be kept, and what is recorded with it is
// written as if nothing were.
func TestFullRedisKeepsNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.URL(), keeping(time.Hour)), server.Client(t)
	ctx := t.Context()
	ref := core.EndpointRef{Organization: "acme", ID: "e"}
	keepEach(t, s, deadLetter("e", 1, 100).Delivery)
	park(t, s, core.Parking{Endpoint: ref, Deliveries: parcels(ref, 2, 10)})
	waiting := backlog(t, s, ref)
	noError(t, client.ConfigSet(ctx, "maxmemory", "1").Err())
	r := core.Record{
		Attempts: []core.Attempt{attempt(ref.ID, 1, core.StatusDelivered)}, Kept: []core.Delivery{waiting[0].Delivery, waiting[1].Delivery},
		Drained: core.Drained{Endpoint: ref, Entries: waiting}, Repeated: true, // see TestLeaveFullRedis
	}
	noError(t, s.Record(ctx, r))
	if rows, err := s.Attempts(ctx, ref.ID, false); err != nil || len(rows) != 1 {
		t.Errorf("%d rows, %v; want 1", len(rows), err)
	}
	if left := backlog(t, s, ref); len(left) != 0 {
		t.Errorf("%d still wait", len(left))
	}
	if n := client.XLen(ctx, keptKey("e")).Val(); n != 1 || s.unkept(boundFull) != 2 {
		t.Errorf("%d entries, %v refused; want the first one, and two refused", n, s.unkept(boundFull))
	}
}

// Redis being nearly full, what room there is belongs to what is not delivered yet.
func TestNearlyFullRedisKeepsNothing(t *testing.T) {
	t.Parallel()
	s, client := setup(t, keeping(time.Hour))
	s.observe(memory{used: 80, max: 100})
	noError(t, s.Record(t.Context(), core.Record{
		Attempts: []core.Attempt{attempt("a", 1, core.StatusDelivered)}, Kept: []core.Delivery{deadLetter("a", 1, 100).Delivery},
	}))
	if keys := client.Keys(t.Context(), "*").Val(); !slices.Equal(keys, []string{attemptsKey("a")}) || s.unkept(boundFull) != 1 {
		t.Errorf("keys %q, %v refused", keys, s.unkept(boundFull))
	}
}

// Many large ones go in several pipelines, and some not at all.
func TestManyLargeKept(t *testing.T) {
	t.Parallel()
	s, client := setup(t, keeping(time.Hour), func(o *Options) { o.MaxKeptBytes = 1 << 30 })
	const size, n = 1 << 20, 40
	ds := make([]core.Delivery, n)
	body := make([]byte, size)
	_, _ = rand.Read(body) // does not fail, and is not compressed
	for i := range ds {
		ds[i] = deadLetter(fmt.Sprint("e", i%2), i, 10).Delivery
		ds[i].Event.Body = body
	}
	noError(t, s.Record(t.Context(), core.Record{Attempts: []core.Attempt{attempt("e0", 1, core.StatusDelivered)}, Kept: ds}))
	kept := client.XLen(t.Context(), keptKey("e0")).Val() + client.XLen(t.Context(), keptKey("e1")).Val()
	if kept < maxKeepRecord/(size+512) || kept > maxKeepRecord/size+maxKeepBytes/size || s.unkept(boundBytes) != float64(n-kept) {
		t.Errorf("%d kept, %v dropped of %d", kept, s.unkept(boundBytes), n)
	}
	if rows, err := s.Attempts(t.Context(), "e0", false); err != nil || len(rows) != 1 {
		t.Errorf("%d rows, %v; want 1", len(rows), err)
	}
}
