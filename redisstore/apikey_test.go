package redisstore

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

func apiKey(organization, id string, created int) core.APIKey {
	return core.APIKey{ID: id, Organization: organization, Name: "n", Scopes: []core.Scope{core.ScopeRead, core.ScopePublish}, Hint: "sp_abcde", CreatedAt: instant(created)}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		first, second, other := apiKey("acme", "key_1", 1), apiKey("acme", "key_2", 2), apiKey("other", "key_3", 0)
		second.ExpiresAt = time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
		for i, k := range []core.APIKey{first, second, other} {
			for range 2 {
				noError(t, s.CreateAPIKey(ctx, [32]byte{byte(i)}, k))
			}
		}
		got, err := s.APIKey(ctx, [32]byte{1})
		noError(t, err)
		if diff := cmp.Diff(&second, got); diff != "" {
			t.Errorf("APIKey (-want +got):\n%s", diff)
		}
		for organization, want := range map[string][]core.APIKey{"acme": {first, second}, "": {other, first, second}, "nobody": nil} {
			got, err := s.APIKeys(ctx, organization)
			noError(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("APIKeys(%q) (-want +got):\n%s", organization, diff)
			}
		}
		if ttl := s.client.PTTL(ctx, apiKeyKey([32]byte{0})).Val(); ttl != -1 {
			t.Errorf("a key without expiry ends in %v", ttl)
		}
		if ttl := s.client.PTTL(ctx, apiKeyKey([32]byte{1})).Val(); ttl <= time.Hour-time.Minute || ttl > time.Hour {
			t.Errorf("the record ends in %v; want %v", ttl, time.Hour)
		}

		noError(t, s.RevokeAPIKey(ctx, first.ID))
		_, err = s.APIKey(ctx, [32]byte{0})
		wantCode(t, err, core.CodeNotFound)
		wantCode(t, s.RevokeAPIKey(ctx, first.ID), core.CodeNotFound)
		left, err := s.APIKeys(ctx, "acme")
		noError(t, err)
		if diff := cmp.Diff([]core.APIKey{second}, left); diff != "" {
			t.Errorf("after the revocation (-want +got):\n%s", diff)
		}
	})
}

func TestExpiredAPIKeys(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Millisecond)
	clock := now
	s, client := setup(t, func(o *Options) { o.Now = func() time.Time { return clock } })
	ctx := t.Context()
	k := apiKey("acme", "key_1", 1)
	k.ExpiresAt = now.Add(time.Hour)
	noError(t, s.CreateAPIKey(ctx, [32]byte{1}, k))

	clock = k.ExpiresAt // by our clock; Redis's is behind
	_, err := s.APIKey(ctx, [32]byte{1})
	wantCode(t, err, core.CodeNotFound)
	for _, step := range []struct {
		name   string
		now    time.Time
		listed int64
	}{
		{name: "just expired", now: k.ExpiresAt, listed: 1},
		{name: "a day later", now: k.ExpiresAt.Add(24 * time.Hour), listed: 0},
	} {
		clock = step.now
		if keys, err := s.APIKeys(ctx, ""); len(keys) != 0 || err != nil {
			t.Errorf("%s: APIKeys = %v, %v; want none", step.name, keys, err)
		}
		if n := client.HLen(ctx, apiKeysKey).Val(); n != step.listed {
			t.Errorf("%s: %d entries in the list; want %d", step.name, n, step.listed)
		}
	}
}

func TestExpiryInThePast(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	k := apiKey("acme", "key_1", 1)
	k.ExpiresAt = time.Now().Add(-time.Hour)
	noError(t, s.CreateAPIKey(t.Context(), [32]byte{1}, k))
	_, err := s.APIKey(t.Context(), [32]byte{1})
	wantCode(t, err, core.CodeNotFound)
}

func TestRevokeRefusesABrokenEntry(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	for _, entry := range []string{`{`, `{"id":"key_1","sha256":"00"}`, `{"id":"key_1"}`} {
		noError(t, client.HSet(t.Context(), apiKeysKey, "key_1", entry).Err())
		wantCode(t, s.RevokeAPIKey(t.Context(), "key_1"), core.CodeInternal)
	}
}
