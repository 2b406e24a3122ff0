package redisstore

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// near reports whether d is about want; a test may take a while.
func near(d, want time.Duration) bool { return d <= want && d > want-time.Minute }

func release(t *testing.T, s *Store, r core.Release) bool {
	t.Helper()
	released, err := s.ReleaseClaim(t.Context(), r)
	noError(t, err)
	return released
}

func hold(t *testing.T, s *Store, c core.Claim) bool {
	t.Helper()
	held, err := s.HoldClaim(t.Context(), c)
	noError(t, err)
	return held
}

func TestClaims(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if claims, next, err := s.ClaimBacklogs(ctx, 10); len(claims) != 0 || next != 0 || err != nil {
			t.Errorf("nothing waits: %v, %v, %v", claims, next, err)
		}
		if claims, next, err := s.ClaimBacklogs(ctx, 0); len(claims) != 0 || next != 0 || err != nil {
			t.Errorf("nothing wanted: %v, %v, %v", claims, next, err)
		}
		var refs []core.EndpointRef
		for n := range 4 {
			refs = append(refs, endpoint("acme", n).Ref())
			park(t, s, core.Parking{Endpoint: refs[n], Deliveries: parcels(refs[n], 1, 10)})
			noError(t, s.client.ZAdd(ctx, waitingKey, redis.Z{Score: float64(10 - n), Member: memberOf(refs[n])}).Err())
		}
		later := endpoint("acme", 9).Ref()
		park(t, s, core.Parking{Endpoint: later, Due: time.Now().Add(time.Hour), Deliveries: parcels(later, 1, 10)})
		claims, next, err := s.ClaimBacklogs(ctx, 3)
		noError(t, err)
		if len(claims) != 3 || next != 0 || claims[0].Endpoint != refs[3] || claims[2].Endpoint != refs[1] {
			t.Errorf("claims %v, next in %v; want the three longest overdue", claims, next)
		}
		claims, next, err = s.ClaimBacklogs(ctx, 3)
		noError(t, err)
		if len(claims) != 1 || claims[0].Endpoint != refs[0] || next <= 0 || next > core.ClaimLease {
			t.Errorf("claims %v, next in %v; want the one that is left, and the first end of a lease", claims, next)
		}
		for _, ref := range refs {
			if in := dueIn(t, s, ref); !near(in, core.ClaimLease) {
				t.Errorf("the lease of %v ends in %v", ref, in)
			}
		}
		if in := dueIn(t, s, later); !near(in, time.Hour) {
			t.Errorf("due in %v; want an hour", in)
		}
		idle(t, s)
	})
}

// A drain that was killed, or is slow, is succeeded by another one: the first has no
// say any more.
func TestSecondOwner(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ref := endpoint("acme", 1).Ref()
		park(t, s, core.Parking{Endpoint: ref, Deliveries: parcels(ref, 2, 10)})
		first := claimOne(t, s, ref)
		first.Condition = core.Condition{State: core.StateSlow, Since: instant(1), Until: instant(2)}
		if !hold(t, s, first) {
			t.Fatal("the claim is lost at once")
		}
		makeDue(t, s, ref)
		second := claimOne(t, s, ref)
		if second.Owner == first.Owner || second.Condition != first.Condition {
			t.Errorf("second claim %+v after %+v", second, first)
		}
		before := dueIn(t, s, ref)
		first.Condition.State = core.StateFailing
		if hold(t, s, first) {
			t.Error("the first owner still holds the claim")
		}
		for _, only := range []bool{true, false} {
			if !release(t, s, core.Release{Claim: first, OnlyEmpty: only, Due: instant(0)}) {
				t.Errorf("only empty %t: the first owner is told to go on", only)
			}
		}
		if after := dueIn(t, s, ref); after > before || after < before-time.Minute {
			t.Errorf("the first owner moved the look from in %v to in %v", before, after)
		}
		second.Condition = core.Condition{}
		if !hold(t, s, second) {
			t.Error("the second owner lost its claim")
		}
		drain(t, s, ref, backlog(t, s, ref)...)
		for range 2 { // a release may be repeated
			if !release(t, s, core.Release{Claim: second, OnlyEmpty: true}) {
				t.Error("an empty backlog is not released")
			}
		}
		if hold(t, s, second) {
			t.Error("a released claim is held")
		}
		idle(t, s)
	})
}

func TestReleaseSaysWhenToLookNext(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ref := endpoint("acme", 1).Ref()
		park(t, s, core.Parking{Endpoint: ref, Deliveries: parcels(ref, 1, 10)})
		rings(t, s)
		paused := core.Condition{State: core.StatePaused, Since: instant(1), Until: time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC(), Head: "whd_1", HeadAttempts: 2}
		c := claimOne(t, s, ref)
		c.Condition = paused
		if !release(t, s, core.Release{Claim: c, Due: paused.Until}) || !near(dueIn(t, s, ref), time.Hour) || rings(t, s) != 0 {
			t.Errorf("released; due in %v; want an hour", dueIn(t, s, ref))
		}
		idle(t, s)
		makeDue(t, s, ref)
		c = claimOne(t, s, ref)
		if diff := cmp.Diff(paused, c.Condition); diff != "" {
			t.Errorf("condition of the next claim (-want +got):\n%s", diff)
		}
		if release(t, s, core.Release{Claim: c, OnlyEmpty: true}) || !hold(t, s, c) {
			t.Error("a claim on a backlog that is not empty was given up")
		}
		c.Condition = core.Condition{}
		if !release(t, s, core.Release{Claim: c}) || rings(t, s) != 1 {
			t.Error("no ring for a backlog that is due at once")
		}
		if c = claimOne(t, s, ref); c.Condition != (core.Condition{}) {
			t.Errorf("condition %+v; want none", c.Condition)
		}
	})
}

// Whoever parks between a drain's last look and its release is not overlooked.
func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ref := endpoint("acme", 1).Ref()
		park(t, s, core.Parking{Endpoint: ref, Deliveries: parcels(ref, 1, 10)})
		c := claimOne(t, s, ref)
		drain(t, s, ref, backlog(t, s, ref)...)
		if left := backlog(t, s, ref); len(left) != 0 {
			t.Fatalf("%d are left", len(left))
		}
		rings(t, s)
		late := parcels(ref, 1, 10)
		park(t, s, core.Parking{Endpoint: ref, Deliveries: late})
		if n := rings(t, s); n != 0 {
			t.Errorf("%d rings for a backlog that is claimed", n)
		}
		if release(t, s, core.Release{Claim: c, OnlyEmpty: true}) {
			t.Fatal("the claim was given up while something waits")
		}
		if diff := cmp.Diff(late, deliveriesOf(backlog(t, s, ref)), sameBytes); diff != "" {
			t.Errorf("backlog (-want +got):\n%s", diff)
		}
		drain(t, s, ref, backlog(t, s, ref)...)
		if !release(t, s, core.Release{Claim: c, OnlyEmpty: true}) {
			t.Fatal("the claim was kept although nothing waits")
		}
		park(t, s, core.Parking{Endpoint: ref, Deliveries: late})
		claimOne(t, s, ref)
	})
}

// TestDrainsAndParkersAtOnce has many park into few backlogs and several drains work
// them off, each of which ends when all is drained.
func TestDrainsAndParkersAtOnce(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	const parkers, rounds = 6, 25
	var mu sync.Mutex
	seen := make(map[string]int)
	var wg sync.WaitGroup
	for p := range parkers {
		wg.Go(func() {
			for range rounds {
				ref := endpoint("acme", p%2).Ref()
				if _, err := s.Park(ctx, []core.Parking{{Endpoint: ref, Deliveries: parcels(ref, 1, 10)}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == parkers*rounds
	}
	work := func(c core.Claim) error {
		for {
			waiting, err := s.Backlog(ctx, c.Endpoint, "", 4)
			if err != nil {
				return err
			}
			mu.Lock()
			for _, w := range waiting {
				seen[w.Delivery.ID]++
			}
			mu.Unlock()
			if len(waiting) > 0 {
				if err := s.Record(ctx, core.Record{Drained: core.Drained{Endpoint: c.Endpoint, Entries: waiting}}); err != nil {
					return err
				}
				continue
			}
			if released, err := s.ReleaseClaim(ctx, core.Release{Claim: c, OnlyEmpty: true}); released || err != nil {
				return err
			}
		}
	}
	deadline := time.Now().Add(time.Minute)
	for range 3 {
		wg.Go(func() {
			for !done() {
				claims, _, err := s.ClaimBacklogs(ctx, 1)
				for _, c := range claims {
					err = work(c)
				}
				if err == nil && len(claims) == 0 {
					err = s.AwaitBacklogs(ctx, 100*time.Millisecond)
				}
				if err != nil || time.Now().After(deadline) {
					t.Errorf("%d of %d drained: %v", len(seen), parkers*rounds, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was handed out %d times", id, n)
		}
	}
	if n := client.ZCard(ctx, waitingKey).Val(); n != 0 {
		t.Errorf("%d endpoints still wait", n)
	}
}

func TestAwaitBacklogs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		ref := endpoint("acme", 1).Ref()
		park(t, s, core.Parking{Endpoint: ref, Due: time.Now().Add(time.Hour), Deliveries: parcels(ref, 1, 10)})
		if n := rings(t, s); n != 0 {
			t.Errorf("%d rings for what is due in an hour", n)
		}
		for _, hold := range []time.Duration{-1, 0, time.Microsecond, 10 * time.Millisecond} {
			noError(t, s.AwaitBacklogs(ctx, hold))
		}
		for range 20 {
			noError(t, s.LookAt(ctx, ref, false))
		}
		noError(t, s.AwaitBacklogs(ctx, time.Hour)) // a ring is kept
		if n := rings(t, s); n != 15 {
			t.Errorf("%d rings are left; want 15 of 16", n)
		}
		woken := make(chan error, 1)
		go func() { woken <- s.AwaitBacklogs(ctx, time.Second) }()
		claim(t, s)
		noError(t, <-woken)
	})
}

func TestLookAt(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		ref := endpoint("acme", 1).Ref()
		failing := core.Condition{State: core.StateFailing, Since: instant(1), Until: time.Now().Add(time.Hour)}
		park(t, s, core.Parking{Endpoint: ref, Condition: failing, Failing: instant(1)})
		noError(t, s.LookAt(ctx, ref, false))
		idle(t, s)
		park(t, s, core.Parking{Endpoint: ref, Deliveries: parcels(ref, 1, 10)})
		if in := dueIn(t, s, ref); !near(in, time.Hour) || rings(t, s) != 0 {
			t.Errorf("due in %v; want the next probe", in)
		}
		noError(t, s.LookAt(ctx, ref, false))
		if n := rings(t, s); n != 1 {
			t.Errorf("%d rings; want 1", n)
		}
		c := claimOne(t, s, ref)
		if c.Condition.State != core.StateFailing {
			t.Errorf("condition %+v", c.Condition)
		}

		// The drain at work does not know yet, and would put the look off.
		for range 2 {
			noError(t, s.LookAt(ctx, ref, true))
		}
		if standings, err := s.Standings(ctx, []core.EndpointRef{ref}); err != nil || standings[0] != (core.Standing{Backlog: 1}) {
			t.Errorf("standing %+v, %v; want all forgotten", standings, err)
		}
		if !hold(t, s, c) || rings(t, s) != 0 {
			t.Error("the claim is lost")
		}
		if !release(t, s, core.Release{Claim: c, Due: failing.Until}) || rings(t, s) != 1 {
			t.Error("not released, or no ring")
		}
		if c = claimOne(t, s, ref); c.Condition.State != "" {
			t.Errorf("condition %+v; want what the drain knew before forgotten", c.Condition)
		}
		if !release(t, s, core.Release{Claim: c, Due: failing.Until}) || !near(dueIn(t, s, ref), time.Hour) {
			t.Errorf("due in %v; want the look to be over", dueIn(t, s, ref))
		}
	})
}

func TestForgottenEndpoint(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a, b := endpoint("acme", 1).Ref(), endpoint("acme", 2).Ref()
		failing := core.Condition{State: core.StateFailing, Since: instant(1), Until: instant(2)}
		for _, ref := range []core.EndpointRef{a, b} {
			park(t, s, core.Parking{Endpoint: ref, Condition: failing, Failing: instant(1), Deliveries: parcels(ref, 3, 100)})
		}
		claims := claim(t, s)
		size := 0
		for _, w := range backlog(t, s, b) {
			size += w.Size
		}
		for range 2 {
			noError(t, s.ForgetEndpoint(ctx, a))
		}
		if hold(t, s, claims[a]) || !hold(t, s, claims[b]) {
			t.Error("want the claim on the forgotten endpoint to be lost, and only that")
		}
		for key, fields := range map[string][]string{
			conditionsKey: {b.ID}, failingKey: {b.ID}, sizesKey: {b.ID}, ownersKey: {memberOf(b)},
		} {
			if diff := cmp.Diff(fields, s.client.HKeys(ctx, key).Val()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", key, diff)
			}
		}
		v, err := s.BacklogOverview(ctx)
		noError(t, err)
		want := core.BacklogOverview{Endpoints: 1, Claimed: 1, Deliveries: 3, Bytes: int64(size), Conditions: 1, ByState: map[core.State]int{core.StateFailing: 1}}
		if diff := cmp.Diff(want, v); diff != "" {
			t.Errorf("overview (-want +got):\n%s", diff)
		}
		if n := s.client.Exists(ctx, backlogKey(a.ID)).Val(); n != 0 {
			t.Error("the backlog is still there")
		}
	})
}

// A full Redis lets drains work, and takes nothing more into backlogs.
func TestFullRedisLetsDrainsWork(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.URL()), server.Client(t)
	ctx := t.Context()
	a, b := endpoint("acme", 1).Ref(), endpoint("acme", 2).Ref()
	park(t, s, core.Parking{Endpoint: a, Deliveries: parcels(a, 3, 10)}, core.Parking{Endpoint: b, Due: time.Now().Add(time.Hour), Deliveries: parcels(b, 1, 10)})
	limitMemory(t, client, 2)

	condition := core.Condition{State: core.StateSlow, Since: instant(1), Until: instant(2)}
	_, err := s.Park(ctx, []core.Parking{{Endpoint: a, Deliveries: parcels(a, 2, 10)}})
	wantCode(t, err, core.CodeUnavailable)
	_, err = s.Park(ctx, []core.Parking{{Endpoint: b, Condition: condition, Failing: instant(1)}})
	wantCode(t, err, core.CodeUnavailable)
	if v, err := s.BacklogOverview(ctx); err != nil || v.Deliveries != 4 || v.Conditions != 0 {
		t.Errorf("overview %+v, %v; want nothing added", v, err)
	}

	c := claimOne(t, s, a)
	c.Condition = condition
	if !hold(t, s, c) {
		t.Error("the claim is not held")
	}
	drain(t, s, a, backlog(t, s, a)[:2]...)
	if !release(t, s, core.Release{Claim: c, Due: time.Now().Add(time.Hour)}) || !near(dueIn(t, s, a), time.Hour) {
		t.Error("the claim is not released")
	}
	if v, err := s.BacklogOverview(ctx); err != nil || v.Deliveries != 2 {
		t.Errorf("overview %+v, %v; want two deliveries", v, err)
	}
}

func TestBacklogOverview(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		soon, gone := time.Now().Add(time.Hour), instant(0)
		var parkings []core.Parking
		bytes := 0
		for i, c := range []core.Condition{
			{}, {State: core.StateSlow, Until: soon}, {State: core.StateSlow, Until: soon}, {State: core.StateSlow, Until: gone},
			{State: core.StateFailing, Until: gone}, {State: core.StateCatchingUp}, {State: core.StatePaused, Until: soon},
		} {
			ref := endpoint("acme", i).Ref()
			parkings = append(parkings, core.Parking{Endpoint: ref, Condition: c, Deliveries: parcels(ref, 2, 10)})
		}
		park(t, s, parkings...)
		for _, p := range parkings {
			for _, w := range backlog(t, s, p.Endpoint) {
				bytes += w.Size
			}
		}
		makeDue(t, s, parkings[0].Endpoint)
		if v, err := s.BacklogOverview(ctx); err != nil || v.Overdue < 24*time.Hour {
			t.Errorf("overdue by %v, %v; want since 1970", v.Overdue, err)
		}
		claims := claim(t, s)
		v, err := s.BacklogOverview(ctx)
		noError(t, err)
		want := core.BacklogOverview{
			Endpoints: 7, Claimed: len(claims), Deliveries: 14, Bytes: int64(bytes), Conditions: 5,
			ByState: map[core.State]int{core.StateSlow: 2, core.StateFailing: 1, core.StateCatchingUp: 1, core.StatePaused: 1},
		}
		if diff := cmp.Diff(want, v); diff != "" || len(claims) != 6 {
			t.Errorf("%d claims; overview (-want +got):\n%s", len(claims), diff)
		}
		var many []any
		for n := range maxOverviewConditions {
			many = append(many, fmt.Sprint("e", n), "4 catching_up 0 0 0 0 ")
		}
		noError(t, s.client.HSet(ctx, conditionsKey, many...).Err())
		v, err = s.BacklogOverview(ctx)
		noError(t, err)
		want.Conditions, want.ByState = 6+maxOverviewConditions, map[core.State]int{}
		if diff := cmp.Diff(want, v); diff != "" {
			t.Errorf("overview of many (-want +got):\n%s", diff)
		}
	})
}
