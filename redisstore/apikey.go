package redisstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// listedKey is an API key's entry in the list of all.
type listedKey struct {
	core.APIKey
	SHA256 string `json:"sha256"` // in hexadecimal, to find the key's own record
}

// CreateAPIKey stores an API key under the SHA-256 of the key itself. It may be
// called again with the same arguments.
func (s *Store) CreateAPIKey(ctx context.Context, hash [sha256.Size]byte, k core.APIKey) error {
	defer s.metrics.took(opCreateAPIKey, time.Now())
	record, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode API key %s: %w", k.ID, err)
	}
	entry, err := json.Marshal(listedKey{APIKey: k, SHA256: hex.EncodeToString(hash[:])})
	if err != nil {
		return fmt.Errorf("encode API key %s: %w", k.ID, err)
	}
	// The list first: a key that works can then always be found and revoked.
	if err := s.client.HSet(ctx, apiKeysKey, k.ID, entry).Err(); err != nil {
		return s.fail(opCreateAPIKey, err)
	}
	args := redis.SetArgs{}
	if !k.ExpiresAt.IsZero() {
		args.ExpireAt = k.ExpiresAt
	}
	return s.fail(opCreateAPIKey, s.client.SetArgs(ctx, apiKeyKey(hash), record, args).Err())
}

// APIKey returns the record of the API key with a SHA-256. One that does not
// exist, was revoked or has expired is a core.CodeNotFound error.
func (s *Store) APIKey(ctx context.Context, hash [sha256.Size]byte) (*core.APIKey, error) {
	defer s.metrics.took(opReadAPIKey, time.Now())
	record, err := s.client.Get(ctx, apiKeyKey(hash)).Result()
	if errors.Is(err, redis.Nil) {
		return nil, errNoAPIKey()
	}
	if err != nil {
		return nil, s.fail(opReadAPIKey, err)
	}
	k := new(core.APIKey)
	if err := json.Unmarshal([]byte(record), k); err != nil {
		return nil, fmt.Errorf("decode API key: %w", err)
	}
	if k.Expired(s.now()) {
		return nil, errNoAPIKey()
	}
	return k, nil
}

// APIKeys returns the API keys of an organization, or of all for "", oldest
// first. Those that have expired are left out, and taken off the list.
func (s *Store) APIKeys(ctx context.Context, organization string) ([]core.APIKey, error) {
	defer s.metrics.took(opListAPIKeys, time.Now())
	entries, err := s.client.HGetAll(ctx, apiKeysKey).Result()
	if err != nil {
		return nil, s.fail(opListAPIKeys, err)
	}
	now := s.now()
	var keys []core.APIKey
	var expired []string
	for id, entry := range entries {
		var k listedKey
		if err := json.Unmarshal([]byte(entry), &k); err != nil {
			return nil, fmt.Errorf("decode API key %s: %w", id, err)
		}
		switch {
		case k.Expired(now):
			// A day later, so that a clock that is ahead takes no valid key off.
			if k.Expired(now.Add(-24 * time.Hour)) {
				expired = append(expired, id)
			}
		case organization == "" || k.Organization == organization:
			keys = append(keys, k.APIKey)
		}
	}
	if len(expired) > 0 {
		if err := s.client.HDel(ctx, apiKeysKey, expired...).Err(); err != nil {
			return nil, s.fail(opListAPIKeys, err)
		}
	}
	slices.SortFunc(keys, func(a, b core.APIKey) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return keys, nil
}

// RevokeAPIKey ends an API key by its id. An id that is not on the list is a
// core.CodeNotFound error.
func (s *Store) RevokeAPIKey(ctx context.Context, id string) error {
	defer s.metrics.took(opRevokeAPIKey, time.Now())
	entry, err := s.client.HGet(ctx, apiKeysKey, id).Result()
	if errors.Is(err, redis.Nil) {
		return errNoAPIKey()
	}
	if err != nil {
		return s.fail(opRevokeAPIKey, err)
	}
	var k listedKey
	if err := json.Unmarshal([]byte(entry), &k); err != nil {
		return fmt.Errorf("decode API key %s: %w", id, err)
	}
	var hash [sha256.Size]byte
	if n, err := hex.Decode(hash[:], []byte(k.SHA256)); err != nil || n != len(hash) || len(k.SHA256) != 2*len(hash) {
		return fmt.Errorf("decode API key %s: its hash has the wrong form", id)
	}
	// The list last: until the key is gone it can be revoked again.
	if err := s.client.Unlink(ctx, apiKeyKey(hash)).Err(); err != nil {
		return s.fail(opRevokeAPIKey, err)
	}
	return s.fail(opRevokeAPIKey, s.client.HDel(ctx, apiKeysKey, id).Err())
}

func errNoAPIKey() error { return core.NotFound("API key") }
