package redisstore

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

func reservation(key, owner, body string) core.Reservation {
	return core.Reservation{
		Organization: "acme", Key: key, BodyHash: sha256.Sum256([]byte(body)), Owner: owner,
		EventID: "evt_" + owner, Answer: []byte(`{"id":"evt_` + owner + `"}`),
	}
}

func begin(t *testing.T, s *Store, r core.Reservation) core.ReservationState {
	t.Helper()
	_, states, err := s.Begin(t.Context(), nil, []core.Reservation{r}, core.Draws{})
	noError(t, err)
	return states[0]
}

// endLease makes the lease of a claim end in the past.
func endLease(t *testing.T, client redis.UniversalClient, key string) {
	t.Helper()
	noError(t, client.HSet(t.Context(), idempotencyKey("acme", key), "until", 1000).Err())
}

func TestReservationStates(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a, b, other := reservation("k", "a", "body"), reservation("k", "b", "body"), reservation("k", "c", "another body")
		granted := core.ReservationState{Kind: core.ReservationGranted}
		mismatch := core.ReservationState{Kind: core.ReservationMismatch}
		takenOver := core.ReservationState{Kind: core.ReservationTakenOver, EventID: a.EventID}
		answered := core.ReservationState{Kind: core.ReservationAnswered, Answer: b.Answer}
		check := func(step string, r core.Reservation, want core.ReservationState) {
			t.Helper()
			if diff := cmp.Diff(want, begin(t, s, r)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step, diff)
			}
		}

		check("new", a, granted)
		check("the same request again, after a lost reply", a, granted)
		pending := begin(t, s, b)
		if pending.Kind != core.ReservationPending || pending.RetryAfter <= 0 || pending.RetryAfter > core.ReservationLease {
			t.Errorf("while the first is at work: %+v; want pending with a rest of at most %v", pending, core.ReservationLease)
		}
		check("another body", other, mismatch)
		endLease(t, s.client, "k")
		check("another body after the lease", other, mismatch)
		check("the lease is over", b, takenOver)
		check("the same request again", b, takenOver)
		if late := begin(t, s, a); late.Kind != core.ReservationPending {
			t.Errorf("the first holder again: %+v; want pending", late)
		}

		noError(t, s.Finish(ctx, []core.Reservation{a})) // too late: it is b's
		if late := begin(t, s, a); late.Kind != core.ReservationPending {
			t.Errorf("after the first holder finished: %+v; want pending", late)
		}
		for range 2 {
			noError(t, s.Finish(ctx, []core.Reservation{b}))
		}
		check("finished", a, answered)
		check("finished, to its owner", b, answered)
		check("finished, with another body", other, mismatch)
		noError(t, s.Release(ctx, []core.Reservation{b}))
		check("released too late", a, answered)
	})
}

// note keeps a note with a claim, as a script does that stores deliveries.
func note(t *testing.T, s *Store, r core.Reservation, ds ...core.Delivery) bool {
	t.Helper()
	key, args := Keeping{}.Note(&r, core.AppendNote(nil, ds))
	kept, err := finishScript.Run(t.Context(), s.client, []string{key}, args[:]...).Int()
	noError(t, err)
	return kept == 1
}

// Who takes a claim over learns what has been stored under it, by whichever holder,
// until it has an answer.
func TestNotesAreTakenOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		parcel := func(event int, endpoint string) core.Delivery {
			return core.Delivery{Endpoint: endpoint, Event: &core.Event{Index: event}}
		}
		a, b, c := reservation("k", "a", "body"), reservation("k", "b", "body"), reservation("k", "c", "body")
		begin(t, s, a)
		for range 2 {
			if !note(t, s, a, parcel(0, "ep_1"), parcel(0, "ep_2"), parcel(700, "ep_1")) {
				t.Error("a note of its holder is not kept")
			}
		}
		stored := core.Stored{0: {"ep_1": {}, "ep_2": {}}, 700: {"ep_1": {}}}
		want := core.ReservationState{Kind: core.ReservationTakenOver, EventID: a.EventID, Stored: stored}
		if diff := cmp.Diff(want, begin(t, s, a)); diff != "" {
			t.Errorf("its holder again (-want +got):\n%s", diff)
		}
		endLease(t, s.client, "k")
		for range 2 {
			if diff := cmp.Diff(want, begin(t, s, b)); diff != "" {
				t.Errorf("taken over (-want +got):\n%s", diff)
			}
		}
		if note(t, s, a, parcel(1, "ep_1")) || !note(t, s, b, parcel(1, "ep_3")) {
			t.Error("the first holder's note is kept, or the second's is not")
		}
		stored[1] = map[string]struct{}{"ep_3": {}}
		endLease(t, s.client, "k")
		if diff := cmp.Diff(want, begin(t, s, c)); diff != "" {
			t.Errorf("taken over twice (-want +got):\n%s", diff)
		}
		noError(t, s.Finish(t.Context(), []core.Reservation{c}))
		if diff := cmp.Diff(core.ReservationState{Kind: core.ReservationAnswered, Answer: c.Answer}, begin(t, s, a)); diff != "" {
			t.Errorf("finished (-want +got):\n%s", diff)
		}
		if n := s.client.HLen(t.Context(), idempotencyKey("acme", "k")).Val(); n != 5 {
			t.Errorf("%d fields of a finished claim, want 5: no notes", n)
		}
	})
}

// An event id is a key, too, and what is stored under it by one holder is another's
// to finish, not to forget.
func TestSameEventIDIsTakenOver(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	a, b := reservation("k", "a", "body"), reservation("k", "b", "body")
	b.EventID = a.EventID
	begin(t, s, a)
	endLease(t, client, "k")
	if diff := cmp.Diff(core.ReservationState{Kind: core.ReservationTakenOver, EventID: a.EventID}, begin(t, s, b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a, b := reservation("k", "a", "body"), reservation("k", "b", "other body")
		begin(t, s, a)
		noError(t, s.Release(ctx, []core.Reservation{b})) // not its claim
		if state := begin(t, s, b); state.Kind != core.ReservationMismatch {
			t.Errorf("released by another: %+v; want a mismatch", state)
		}
		for range 2 {
			noError(t, s.Release(ctx, []core.Reservation{a}))
		}
		if state := begin(t, s, b); state.Kind != core.ReservationGranted {
			t.Errorf("released by its owner: %+v; want granted", state)
		}
		noError(t, s.Release(ctx, nil))
		noError(t, s.Finish(ctx, nil))
	})
}

func TestClaimsExpire(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	r := reservation("k", "a", "body")
	key := idempotencyKey("acme", "k")
	check := func(step string) {
		t.Helper()
		if ttl := client.PTTL(ctx, key).Val(); ttl <= core.IdempotencyLifetime-time.Minute || ttl > core.IdempotencyLifetime {
			t.Errorf("%s: ends in %v; want %v", step, ttl, core.IdempotencyLifetime)
		}
	}
	begin(t, s, r)
	check("begun")
	noError(t, client.PExpire(ctx, key, time.Hour).Err())
	noError(t, s.Finish(ctx, []core.Reservation{r}))
	check("finished")
	noError(t, client.Del(ctx, key).Err())
	noError(t, s.Finish(ctx, []core.Reservation{r}))
	if n := client.Exists(ctx, key).Val(); n != 0 {
		t.Error("finishing a claim that is gone brought it back")
	}
}

func TestBeginIsInOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		noError(t, s.CreateEndpoint(t.Context(), endpoint("acme", 1), 1))
		_, version, err := s.Endpoints(t.Context(), "acme")
		noError(t, err)
		elsewhere := reservation("k", "d", "body")
		elsewhere.Organization = "other"
		rs := []core.Reservation{reservation("k", "a", "body"), reservation("k", "b", "body"), reservation("k", "c", "other body"), elsewhere, reservation("l", "e", "body")}
		versions, states, err := s.Begin(t.Context(), []string{"other", "acme"}, rs, core.Draws{})
		noError(t, err)
		if diff := cmp.Diff([]string{"", version}, versions); diff != "" {
			t.Errorf("versions (-want +got):\n%s", diff)
		}
		var kinds []core.ReservationKind
		for _, state := range states {
			kinds = append(kinds, state.Kind)
		}
		want := []core.ReservationKind{core.ReservationGranted, core.ReservationPending, core.ReservationMismatch, core.ReservationGranted, core.ReservationGranted}
		if diff := cmp.Diff(want, kinds); diff != "" {
			t.Errorf("kinds (-want +got):\n%s", diff)
		}
		if v, st, err := s.Begin(t.Context(), nil, nil, core.Draws{}); len(v)+len(st) != 0 || err != nil {
			t.Errorf("Begin of nothing = %v, %v, %v", v, st, err)
		}
	})
}

func TestOneOfManyIsGranted(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	var wg sync.WaitGroup
	kinds := make([]core.ReservationKind, 32)
	for i := range kinds {
		wg.Go(func() {
			_, states, err := s.Begin(t.Context(), []string{"acme"}, []core.Reservation{reservation("k", fmt.Sprint(i), "body")}, core.Draws{})
			if err != nil {
				t.Error(err)
				return
			}
			kinds[i] = states[0].Kind
		})
	}
	wg.Wait()
	count := make(map[core.ReservationKind]int)
	for _, kind := range kinds {
		count[kind]++
	}
	if count[core.ReservationGranted] != 1 || count[core.ReservationPending] != len(kinds)-1 {
		t.Errorf("kinds %v; want one granted, the rest pending", count)
	}
}
