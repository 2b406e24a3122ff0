package redisstore

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// trailScript returns the rows about one event in an endpoint's log and among its
// failures, each once.
//
// KEYS: attemptsKey, failuresKey. ARGV: what stands in such a row, most rows.
var trailScript = redis.NewScript(`
local rows, known = {}, {}
for _, key in ipairs(KEYS) do
	for _, row in ipairs(redis.call('LRANGE', key, 0, tonumber(ARGV[2]) - 1)) do
		if not known[row] and string.find(row, ARGV[1], 1, true) then
			known[row] = true
			rows[#rows+1] = row
		end
	end
end
return rows
`)

// trailChunk is how many logs one round trip reads, and trailQuestions how many
// deliveries one asks for: two to four milliseconds of Redis, between which others have
// their turn.
const (
	trailChunk     = 16
	trailQuestions = 256
)

// EventTrails returns what the logs of endpoints know about an event, without those
// that know nothing. It reads the logs where they are: one script for each endpoint,
// sixteen in a round trip, and further round trips for dead letters.
func (s *Store) EventTrails(ctx context.Context, endpoints []string, event string) ([]core.EventTrail, error) {
	if len(endpoints) == 0 {
		return nil, nil
	}
	defer s.metrics.took(opReadTrails, time.Now())
	var trails []core.EventTrail
	for some := range slices.Chunk(endpoints, trailChunk) {
		found, err := s.someTrails(ctx, some, event)
		if err != nil {
			return nil, s.fail(opReadTrails, err)
		}
		trails = append(trails, found...)
	}
	return trails, s.findDead(ctx, trails)
}

// someTrails is EventTrails for one round trip, without dead letters.
func (s *Store) someTrails(ctx context.Context, endpoints []string, event string) ([]core.EventTrail, error) {
	b := s.batch()
	replies := make([]*redis.Cmd, len(endpoints))
	for i, endpoint := range endpoints {
		replies[i] = b.run(ctx, trailScript, []string{attemptsKey(endpoint), failuresKey(endpoint)}, "|"+event+"|", maxRows)
	}
	if err := b.exec(ctx); err != nil {
		return nil, err
	}
	var trails []core.EventTrail
	for i, reply := range replies {
		rows, err := reply.StringSlice()
		if err != nil {
			return nil, err
		}
		if t := s.trailOf(endpoints[i], event, rows); len(t.Attempts) > 0 {
			trails = append(trails, t)
		}
	}
	return trails, nil
}

// trailOf reads the rows of an endpoint.
func (s *Store) trailOf(endpoint, event string, rows []string) core.EventTrail {
	t := core.EventTrail{Endpoint: endpoint}
	for _, row := range rows {
		if a := s.readRow(endpoint, row); a != nil && a.Event == event {
			t.Attempts = append(t.Attempts, *a)
		}
	}
	slices.SortStableFunc(t.Attempts, func(a, b core.Attempt) int { return b.StartedAt.Compare(a.StartedAt) })
	return t
}

// question is whether a delivery of a trail is among the dead letters.
type question struct {
	trail    *core.EventTrail
	delivery string
	reply    *redis.BoolCmd
}

// findDead fills in which deliveries are among the dead letters.
func (s *Store) findDead(ctx context.Context, trails []core.EventTrail) error {
	var questions []question
	for i := range trails {
		for j := range trails[i].Attempts {
			if a := &trails[i].Attempts[j]; a.Status == core.StatusFailed {
				questions = append(questions, question{trail: &trails[i], delivery: a.Delivery})
			}
		}
	}
	for some := range slices.Chunk(questions, trailQuestions) {
		pipe := s.client.Pipeline()
		for i := range some {
			some[i].reply = pipe.HExists(ctx, deadIndexKey(some[i].trail.Endpoint), some[i].delivery)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return s.fail(opReadTrails, err)
		}
	}
	for _, q := range questions {
		if q.reply.Val() && !slices.Contains(q.trail.Dead, q.delivery) {
			q.trail.Dead = append(q.trail.Dead, q.delivery)
		}
	}
	return nil
}
