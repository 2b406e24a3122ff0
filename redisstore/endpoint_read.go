package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// Endpoint returns one endpoint. One that does not exist, or not in this
// organization, is a core.CodeNotFound error.
func (s *Store) Endpoint(ctx context.Context, ref core.EndpointRef) (*core.Endpoint, error) {
	defer s.metrics.took(opReadEndpoint, time.Now())
	record, err := s.client.HGet(ctx, endpointsKey(ref.Organization), ref.ID).Result()
	if errors.Is(err, redis.Nil) {
		return nil, errNoEndpoint()
	}
	if err != nil {
		return nil, s.fail(opReadEndpoint, err)
	}
	return decodeEndpoint(ref, record)
}

// Endpoints returns an organization's endpoints, newest first, and their version
// token: the one that was in force when the read began. The endpoints are those
// of this token or, when somebody changed them at this very moment, of the next
// one. An organization without a token gets one; "" is returned only when that
// did not work, and stands for no set of endpoints at all.
func (s *Store) Endpoints(ctx context.Context, organization string) ([]core.Endpoint, string, error) {
	defer s.metrics.took(opListEndpoints, time.Now())
	records, version, err := s.readEndpoints(ctx, organization, false)
	if err == nil && version == "" {
		// Nothing was ever changed here, or Redis lost it. With a token the
		// organization need not be read again before every event. A Redis that
		// accepts no writes leaves it without one.
		records, version, err = s.readEndpoints(ctx, organization, true)
	}
	if err != nil {
		return nil, "", s.fail(opListEndpoints, err)
	}
	endpoints := make([]core.Endpoint, 0, len(records))
	for id, record := range records {
		e, err := decodeEndpoint(core.EndpointRef{Organization: organization, ID: id}, record)
		if err != nil {
			return nil, "", err
		}
		endpoints = append(endpoints, *e)
	}
	slices.SortFunc(endpoints, func(a, b core.Endpoint) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return endpoints, version, nil
}

// readEndpoints reads the token first and the endpoints then. It needs no
// transaction, which a full Redis would refuse: endpoints newer than their token
// are merely read once more.
func (s *Store) readEndpoints(ctx context.Context, organization string, withToken bool) (map[string]string, string, error) {
	pipe := s.client.Pipeline()
	if withToken {
		pipe.SetNX(ctx, versionKey(organization), core.NewToken(), 0) // may fail
	}
	version := pipe.Get(ctx, versionKey(organization))
	records := pipe.HGetAll(ctx, endpointsKey(organization))
	_, _ = pipe.Exec(ctx) // its error is one of the replies'
	if err := version.Err(); err != nil && !errors.Is(err, redis.Nil) {
		return nil, "", err
	}
	if err := records.Err(); err != nil {
		return nil, "", err
	}
	return records.Val(), version.Val(), nil
}

// Records returns the endpoints that refs name with their conditions, in one round
// trip and parallel to refs; nil stands for one that does not exist. A record that cannot be read
// is an error and never nil: nil means that its deliveries are dropped.
func (s *Store) Records(ctx context.Context, refs []core.EndpointRef) ([]*core.Endpoint, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	defer s.metrics.took(opReadRecords, time.Now())
	groups := groupByOrganization(refs)
	pipe := s.client.Pipeline()
	replies := make([]*redis.SliceCmd, len(groups))
	for i, g := range groups {
		replies[i] = pipe.HMGet(ctx, endpointsKey(g.organization), g.ids...)
	}
	conditions := askConditions(ctx, pipe, refs)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, s.fail(opReadRecords, err)
	}
	if err := conditions.check(); err != nil {
		return nil, s.fail(opReadRecords, err)
	}
	endpoints := make([]*core.Endpoint, len(refs))
	for i, g := range groups {
		values := replies[i].Val()
		if len(values) != len(g.positions) {
			return nil, s.fail(opReadRecords, fmt.Errorf("%d records in the reply to a question for %d", len(values), len(g.positions)))
		}
		for j, position := range g.positions {
			record, ok := values[j].(string)
			if !ok {
				continue
			}
			e, err := decodeEndpoint(refs[position], record)
			if err != nil {
				return nil, err
			}
			e.Condition, e.Failing = s.conditionOf(&conditions, position)
			endpoints[position] = e
		}
	}
	return endpoints, nil
}

// group is the part of some refs that belongs to one organization.
type group struct {
	organization string
	ids          []string
	positions    []int // in refs
}

func groupByOrganization(refs []core.EndpointRef) []group {
	var groups []group
	index := make(map[string]int, 1)
	for position, ref := range refs {
		i, ok := index[ref.Organization]
		if !ok {
			i = len(groups)
			index[ref.Organization] = i
			groups = append(groups, group{organization: ref.Organization})
		}
		groups[i].ids = append(groups[i].ids, ref.ID)
		groups[i].positions = append(groups[i].positions, position)
	}
	return groups
}
