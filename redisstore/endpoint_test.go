package redisstore

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

func TestEndpointRoundTrip(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		e := endpoint("acme", 1)
		noError(t, s.CreateEndpoint(ctx, e, 10))
		if e.Revision != 1 || e.URLRevision != 1 {
			t.Errorf("revisions %d and %d; want 1 and 1", e.Revision, e.URLRevision)
		}
		got, err := s.Endpoint(ctx, e.Ref())
		noError(t, err)
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("Endpoint (-want +got):\n%s", diff)
		}
		_, err = s.Endpoint(ctx, core.EndpointRef{Organization: "other", ID: e.ID})
		wantCode(t, err, core.CodeNotFound)
	})
}

func TestCreateEndpointIsBoundedAndRepeatable(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	first, second := endpoint("acme", 1), endpoint("acme", 2)
	noError(t, s.CreateEndpoint(ctx, first, 2))
	noError(t, s.CreateEndpoint(ctx, second, 2))
	wantCode(t, s.CreateEndpoint(ctx, endpoint("acme", 3), 2), core.CodeConflict)
	noError(t, s.CreateEndpoint(ctx, endpoint("other", 3), 2))
	noError(t, s.CreateEndpoint(ctx, second, 2)) // a lost reply, asked again

	second.Description = "another"
	wantCode(t, s.CreateEndpoint(ctx, second, 5), core.CodeInternal)
	if n := client.HLen(ctx, endpointsKey("acme")).Val(); n != 2 {
		t.Errorf("%d endpoints are stored; want 2", n)
	}
}

func TestEndpointsAreSortedAndVersioned(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		none, before, err := s.Endpoints(ctx, "acme")
		noError(t, err)
		if len(none) != 0 || before == "" {
			t.Errorf("an unknown organization has %d endpoints, version %q; want none and a token", len(none), before)
		}
		if _, again, err := s.Endpoints(ctx, "acme"); err != nil || again != before {
			t.Errorf("without a change the version is %q, then %q, %v", before, again, err)
		}
		same := endpoint("acme", 4)
		same.CreatedAt = instant(2)
		for _, e := range []*core.Endpoint{endpoint("acme", 1), endpoint("acme", 3), same, endpoint("acme", 2)} {
			noError(t, s.CreateEndpoint(ctx, e, 10))
		}
		list, version, err := s.Endpoints(ctx, "acme")
		noError(t, err)
		var order []string
		for _, e := range list {
			order = append(order, e.ID[35:])
		}
		if want := []string{"3", "2", "4", "1"}; !slices.Equal(order, want) {
			t.Errorf("order %v; want %v", order, want)
		}
		if version == before {
			t.Error("the version did not change with the endpoints")
		}
	})
}

func TestEveryChangeMovesTheVersion(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	e := endpoint("acme", 1)
	seen := map[string]string{"": "start"}
	moved := func(step string) {
		t.Helper()
		version := client.Get(ctx, versionKey("acme")).Val()
		if other, ok := seen[version]; ok {
			t.Errorf("after %s the version is the one of %s", step, other)
		}
		seen[version] = step
		versions, _, err := s.Begin(ctx, []string{"acme", "nobody"}, nil, core.Draws{})
		noError(t, err)
		if diff := cmp.Diff([]string{version, ""}, versions); diff != "" {
			t.Errorf("Begin after %s (-want +got):\n%s", step, diff)
		}
	}
	noError(t, s.CreateEndpoint(ctx, e, 1))
	moved("create")
	_, err := s.UpdateEndpoint(ctx, e.Ref(), func(e *core.Endpoint) error { e.Enabled = false; return nil })
	noError(t, err)
	moved("update")
	noError(t, s.DeleteEndpoint(ctx, e.Ref()))
	moved("delete")
}

func TestUpdateEndpoint(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		e := endpoint("acme", 1)
		noError(t, s.CreateEndpoint(ctx, e, 1))

		got, err := s.UpdateEndpoint(ctx, e.Ref(), func(e *core.Endpoint) error {
			e.Description, e.Organization, e.ID, e.Revision = "new", "evil", "evil", 77
			return nil
		})
		noError(t, err)
		want := *e
		want.Description, want.Revision = "new", 2
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("another description (-want +got):\n%s", diff)
		}

		got, err = s.UpdateEndpoint(ctx, e.Ref(), func(e *core.Endpoint) error { e.URL = "https://new.example.com/"; return nil })
		noError(t, err)
		if got.Revision != 3 || got.URLRevision != 2 {
			t.Errorf("another URL: revisions %d and %d; want 3 and 2", got.Revision, got.URLRevision)
		}
		stored, err := s.Endpoint(ctx, e.Ref())
		noError(t, err)
		if diff := cmp.Diff(got, stored); diff != "" {
			t.Errorf("returned and stored differ (-returned +stored):\n%s", diff)
		}

		own := errors.New("no")
		if _, err = s.UpdateEndpoint(ctx, e.Ref(), func(*core.Endpoint) error { return own }); err != own {
			t.Errorf("error %v; want change's own", err)
		}
		_, err = s.UpdateEndpoint(ctx, core.EndpointRef{Organization: "other", ID: e.ID}, func(*core.Endpoint) error { return nil })
		wantCode(t, err, core.CodeNotFound)
	})
}

func TestUpdateEndpointUnderContention(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	e := endpoint("acme", 1)
	noError(t, s.CreateEndpoint(ctx, e, 1))
	disturb := func(n int) {
		t.Helper()
		other := *e
		other.Description = strconv.Itoa(n)
		_, record, err := changed(e.Ref(), client.HGet(ctx, endpointsKey("acme"), e.ID).Val(), func(e *core.Endpoint) error { *e = other; return nil })
		noError(t, err)
		noError(t, client.HSet(ctx, endpointsKey("acme"), e.ID, record).Err())
	}

	calls := 0
	got, err := s.UpdateEndpoint(ctx, e.Ref(), func(e *core.Endpoint) error {
		if calls++; calls < updateTries {
			disturb(calls)
		}
		e.Enabled = false
		return nil
	})
	noError(t, err)
	if calls != updateTries || got.Enabled || got.Description != "2" {
		t.Errorf("%d calls left %+v; want %d calls and both changes", calls, got, updateTries)
	}

	calls = 0
	_, err = s.UpdateEndpoint(ctx, e.Ref(), func(*core.Endpoint) error { calls++; disturb(10 + calls); return nil })
	wantCode(t, err, core.CodeConflict)
	if calls != updateTries {
		t.Errorf("%d calls; want %d", calls, updateTries)
	}

	_, err = s.UpdateEndpoint(ctx, e.Ref(), func(*core.Endpoint) error { return s.DeleteEndpoint(ctx, e.Ref()) })
	wantCode(t, err, core.CodeNotFound)
}

func TestUpdateEndpointLosesNoChange(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	ctx := t.Context()
	e := endpoint("acme", 1)
	noError(t, s.CreateEndpoint(ctx, e, 1))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var done uint64
	for range 8 {
		wg.Go(func() {
			for range 10 {
				_, err := s.UpdateEndpoint(ctx, e.Ref(), func(e *core.Endpoint) error { e.Description += "x"; return nil })
				if err == nil {
					mu.Lock()
					done++
					mu.Unlock()
				} else if core.CodeOf(err) != core.CodeConflict {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.Endpoint(ctx, e.Ref())
	noError(t, err)
	if changes := uint64(len(got.Description) - len(e.Description)); changes != done || got.Revision != done+1 {
		t.Errorf("%d changes succeeded; stored are %d at revision %d", done, changes, got.Revision)
	}
}

func TestDeleteAndForgetEndpoint(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		e, other := endpoint("acme", 1), endpoint("acme", 2)
		for _, e := range []*core.Endpoint{e, other} {
			noError(t, s.CreateEndpoint(ctx, e, 2))
			noError(t, s.Record(ctx, core.Record{Attempts: []core.Attempt{attempt(e.ID, 1, core.StatusFailed)}, Kept: parcels(e.Ref(), 1, 10)}))
			noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter(e.ID, 1, 10)}))
		}
		wantCode(t, s.DeleteEndpoint(ctx, core.EndpointRef{Organization: "other", ID: e.ID}), core.CodeNotFound)
		noError(t, s.DeleteEndpoint(ctx, e.Ref()))
		wantCode(t, s.DeleteEndpoint(ctx, e.Ref()), core.CodeNotFound)
		_, err := s.Endpoint(ctx, e.Ref())
		wantCode(t, err, core.CodeNotFound)

		for range 2 {
			noError(t, s.ForgetEndpoint(ctx, e.Ref()))
		}
		left := s.client.Keys(ctx, "sp:*").Val()
		slices.Sort(left)
		want := []string{endpointsKey("acme"), versionKey("acme"), attemptsKey(other.ID), deadIndexKey(other.ID), deadKey(other.ID), failuresKey(other.ID), keptKey(other.ID), keptIndexKey(other.ID)}
		slices.Sort(want)
		if diff := cmp.Diff(want, left); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
	}, keeping(time.Hour))
}

func TestRecords(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a, b, c := endpoint("acme", 1), endpoint("acme", 2), endpoint("other", 3)
		for _, e := range []*core.Endpoint{a, b, c} {
			noError(t, s.CreateEndpoint(ctx, e, 2))
		}
		refs := []core.EndpointRef{b.Ref(), c.Ref(), {Organization: "acme", ID: c.ID}, {Organization: "nobody", ID: "x"}, a.Ref(), b.Ref()}
		got, err := s.Records(ctx, refs)
		noError(t, err)
		if diff := cmp.Diff([]*core.Endpoint{b, c, nil, nil, a, b}, got); diff != "" {
			t.Errorf("Records (-want +got):\n%s", diff)
		}
		if got, err = s.Records(ctx, nil); len(got) != 0 || err != nil {
			t.Errorf("Records of nothing = %v, %v", got, err)
		}

		// An unreadable record must not pass for a deleted endpoint.
		noError(t, s.client.HSet(ctx, endpointsKey("acme"), a.ID, "{").Err())
		if _, err = s.Records(ctx, []core.EndpointRef{b.Ref(), a.Ref()}); core.CodeOf(err) != core.CodeInternal {
			t.Errorf("an unreadable record: %v; want an internal error", err)
		}
	})
}

// Records that were written before endpoints had a max_age are read and changed.
func TestRecordWithoutMaxAge(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	e := endpoint("acme", 1)
	const record = `{"id":"00000000-0000-4000-8000-000000000001","organization":"acme","url":"https://a.example.com/","url_revision":1,"event_types":["lead.created"],` +
		`"description":"","enabled":true,"created_at":"2025-11-24T16:00:00.123Z","revision":1,"secrets":[]}`
	noError(t, client.HSet(t.Context(), endpointsKey("acme"), e.ID, record).Err())
	for _, age := range []time.Duration{time.Hour, 0} {
		changed, err := s.UpdateEndpoint(t.Context(), e.Ref(), func(e *core.Endpoint) error { e.MaxAge = age; return nil })
		noError(t, err)
		read, err := s.Endpoint(t.Context(), e.Ref())
		noError(t, err)
		if changed.MaxAge != age || read.MaxAge != age {
			t.Errorf("changed to %v, read as %v; want %v", changed.MaxAge, read.MaxAge, age)
		}
	}
}
