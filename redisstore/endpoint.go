package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// updateTries is how often UpdateEndpoint starts over when the record changed
// under it.
const updateTries = 3

// createScript adds an endpoint to its organization.
//
// KEYS: endpointsKey, versionKey. ARGV: id, record, most endpoints, new version.
// Reply: 1 added, or there already exactly like this; 0 no room; -1 the id is
// taken.
var createScript = redis.NewScript(`
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old then
	if old == ARGV[2] then return 1 end
	return -1
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[4])
return 1
`)

// CreateEndpoint stores a new endpoint and sets its Revision and URLRevision to
// 1. When the organization has limit endpoints already it returns a
// core.CodeConflict error. It may be called again with the same endpoint.
func (s *Store) CreateEndpoint(ctx context.Context, e *core.Endpoint, limit int) error {
	defer s.metrics.took(opCreateEndpoint, time.Now())
	e.Revision, e.URLRevision = 1, 1
	record, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode endpoint %s: %w", e.ID, err)
	}
	keys := []string{endpointsKey(e.Organization), versionKey(e.Organization)}
	reply, err := s.runDurably(ctx, createScript, keys, e.ID, record, limit, core.NewToken()).Int()
	switch {
	case err != nil:
		return s.fail(opCreateEndpoint, err)
	case reply == 0:
		return &core.Error{Code: core.CodeConflict, Detail: fmt.Sprintf("the organization has %d webhooks, which is the limit", limit)}
	case reply < 0:
		return fmt.Errorf("create endpoint %s: the id is taken", e.ID)
	}
	return nil
}

// updateScript replaces an endpoint's record unless it has changed.
//
// KEYS: endpointsKey, versionKey. ARGV: id, old record, new record, new version.
// Reply: 1 replaced; 0 changed meanwhile; -1 no such endpoint.
var updateScript = redis.NewScript(`
local now = redis.call('HGET', KEYS[1], ARGV[1])
if not now then return -1 end
if now ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[4])
return 1
`)

// UpdateEndpoint applies change to an endpoint and returns the stored result.
// Revision counts up, and URLRevision too when the URL differs; change cannot
// alter the endpoint's name. When others keep changing the same endpoint, change
// is called again on their result, three times in all; then a core.CodeConflict
// error is returned. An error of change ends the update and is returned as it
// is. An endpoint that does not exist is a core.CodeNotFound error.
func (s *Store) UpdateEndpoint(ctx context.Context, ref core.EndpointRef, change func(*core.Endpoint) error) (*core.Endpoint, error) {
	defer s.metrics.took(opUpdateEndpoint, time.Now())
	keys := []string{endpointsKey(ref.Organization), versionKey(ref.Organization)}
	for range updateTries {
		old, err := s.client.HGet(ctx, keys[0], ref.ID).Result()
		if errors.Is(err, redis.Nil) {
			return nil, errNoEndpoint()
		}
		if err != nil {
			return nil, s.fail(opUpdateEndpoint, err)
		}
		e, record, err := changed(ref, old, change)
		if err != nil {
			return nil, err
		}
		reply, err := s.runDurably(ctx, updateScript, keys, ref.ID, old, record, core.NewToken()).Int()
		switch {
		case err != nil:
			return nil, s.fail(opUpdateEndpoint, err)
		case reply < 0:
			return nil, errNoEndpoint()
		case reply == 1:
			return e, nil
		}
	}
	return nil, &core.Error{Code: core.CodeConflict, Detail: "the webhook is being changed by other requests; try again"}
}

// changed returns what change makes of the record old, decoded and encoded.
func changed(ref core.EndpointRef, old string, change func(*core.Endpoint) error) (*core.Endpoint, []byte, error) {
	e, err := decodeEndpoint(ref, old)
	if err != nil {
		return nil, nil, err
	}
	url, revision, urlRevision := e.URL, e.Revision, e.URLRevision
	if err := change(e); err != nil {
		return nil, nil, err
	}
	e.Organization, e.ID = ref.Organization, ref.ID
	e.Revision, e.URLRevision = revision+1, urlRevision
	if e.URL != url {
		e.URLRevision++
	}
	record, err := json.Marshal(e)
	if err != nil {
		return nil, nil, fmt.Errorf("encode endpoint %s: %w", ref.ID, err)
	}
	return e, record, nil
}

// deleteScript removes an endpoint's record.
//
// KEYS: endpointsKey, versionKey. ARGV: id, new version.
// Reply: 1 removed; 0 no such endpoint.
var deleteScript = redis.NewScript(`
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
`)

// DeleteEndpoint removes an endpoint's record, which ends its deliveries. Its
// attempts, dead letters and backlog stay until ForgetEndpoint. An endpoint that does not
// exist is a core.CodeNotFound error.
func (s *Store) DeleteEndpoint(ctx context.Context, ref core.EndpointRef) error {
	defer s.metrics.took(opDeleteEndpoint, time.Now())
	keys := []string{endpointsKey(ref.Organization), versionKey(ref.Organization)}
	reply, err := s.runDurably(ctx, deleteScript, keys, ref.ID, core.NewToken()).Int()
	if err != nil {
		return s.fail(opDeleteEndpoint, err)
	}
	if reply == 0 {
		return errNoEndpoint()
	}
	return nil
}

// ForgetEndpoint removes the attempts, the dead letters, what is kept of delivered ones
// and the backlog of a deleted endpoint. It may be called again.
func (s *Store) ForgetEndpoint(ctx context.Context, ref core.EndpointRef) error {
	defer s.metrics.took(opForgetEndpoint, time.Now())
	b := s.batch()
	b.Unlink(ctx, attemptsKey(ref.ID), failuresKey(ref.ID), deadKey(ref.ID), deadIndexKey(ref.ID), keptKey(ref.ID), keptIndexKey(ref.ID), recoverKey(ref.ID))
	writeForgotten(ctx, b, ref)
	return s.fail(opForgetEndpoint, b.exec(ctx))
}

func errNoEndpoint() error { return core.NotFound("webhook") }

func decodeEndpoint(ref core.EndpointRef, record string) (*core.Endpoint, error) {
	e := new(core.Endpoint)
	if err := json.Unmarshal([]byte(record), e); err != nil {
		return nil, fmt.Errorf("decode endpoint %s of %s: %w", ref.ID, ref.Organization, err)
	}
	return e, nil
}
