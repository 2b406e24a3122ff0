package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

const (
	// maxRecoveries bounds the recoveries that an endpoint remembers.
	maxRecoveries = 20

	// recoveryLease is how long a claim on a recovery lasts: for one step, after which
	// another runner takes over what a killed one has left.
	recoveryLease = 15 * time.Second

	// startGrace is how long a recovery may take from being announced to runners to
	// being there: longer than the request that starts it has.
	startGrace = 5 * time.Second
)

// lookRecoveryScript has a recovery looked at.
//
// KEYS: recoveriesKey. ARGV: member, in how many ms, NX to leave what is arranged, or
// XX to arrange nothing for one that has ended.
var lookRecoveryScript = redis.NewScript(luaNow + luaText + `
return redis.call('ZADD', KEYS[1], ARGV[3], text(now + tonumber(ARGV[2])), ARGV[1])
`)

// startRecoveryScript begins a recovery unless one runs. Of too many the oldest are
// forgotten.
//
// KEYS: recoverKey. ARGV: id, record, lifetime in ms, most recoveries. Reply: the id
// of the one that runs; empty if this one is begun, or was.
var startRecoveryScript = redis.NewScript(`
local running = redis.call('HGET', KEYS[1], ':running')
if running == ARGV[1] then return '' end
if running and redis.call('HEXISTS', KEYS[1], running) == 1 then return running end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], ':running', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local ids = {}
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
	if id ~= ':running' and id ~= ARGV[1] then ids[#ids+1] = id end
end
table.sort(ids)
for i = 1, #ids + 1 - tonumber(ARGV[4]) do redis.call('HDEL', KEYS[1], ids[i]) end
return ''
`)

// StartRecovery begins r, whose span is that of Since and Until, and fills in how much
// there is to do. An endpoint has one recovery at a time: while one runs it returns
// CodeConflict. It does not tell whether the endpoint exists.
//
// Runners hear of the recovery first, and of one that is not there yet a moment
// later again: one that is there is never forgotten.
func (s *Store) StartRecovery(ctx context.Context, r *core.Recovery) error {
	defer s.metrics.took(opRecover, time.Now())
	entries, err := s.client.HVals(ctx, deadIndexKey(r.Endpoint.ID)).Result()
	if err != nil {
		return s.fail(opRecover, err)
	}
	r.State, r.Version = core.RecoveryRunning, core.NewToken()
	r.Total, r.Last = countEntries(entries, r.Since, r.Until)
	if err := s.lookAtRecovery(ctx, r, startGrace, "NX"); err != nil {
		return err
	}
	record, err := encodeRecovery(r)
	if err != nil {
		return err
	}
	running, err := s.runDurably(ctx, startRecoveryScript, []string{recoverKey(r.Endpoint.ID)},
		r.ID, record, core.RecoveryLifetime.Milliseconds(), maxRecoveries).Text()
	if err != nil {
		return s.fail(opRecover, err)
	}
	if running == "" {
		return s.lookAtRecovery(ctx, r, 0, "XX")
	}
	// The other one may have been begun by a gateway that was killed at the wrong
	// moment: it is looked at as well.
	other := core.Recovery{ID: running, Endpoint: r.Endpoint}
	err = errors.Join(s.lookAtRecovery(ctx, &other, 0, "NX"), s.dropRecovery(ctx, r))
	if err != nil {
		return err
	}
	return &core.Error{Code: core.CodeConflict, Detail: "the recovery " + running + " of this endpoint is still running"}
}

// countEntries returns how many of the entries of dead letters are in a span, and the
// last of them.
func countEntries(entries []string, since, until time.Time) (n int, last string) {
	var lastMS, lastSequence int64 = -1, -1
	for _, entry := range entries {
		first, second, ok := strings.Cut(entry, "-")
		if !ok {
			continue // the size of all
		}
		var p numbers
		ms, sequence := p.integer(first), p.integer(second)
		if p.err != nil || !since.IsZero() && ms < since.UnixMilli() || !until.IsZero() && ms >= until.UnixMilli() {
			continue
		}
		n++
		if ms > lastMS || ms == lastMS && sequence > lastSequence {
			last, lastMS, lastSequence = entry, ms, sequence
		}
	}
	return n, last
}

func (s *Store) lookAtRecovery(ctx context.Context, r *core.Recovery, wait time.Duration, condition string) error {
	err := lookRecoveryScript.Run(ctx, s.client, []string{recoveriesKey}, recoveryMember(r), wait.Milliseconds(), condition).Err()
	return s.fail(opRecover, err)
}

func (s *Store) dropRecovery(ctx context.Context, r *core.Recovery) error {
	return s.fail(opRecover, s.client.ZRem(ctx, recoveriesKey, recoveryMember(r)).Err())
}

// recoveryMember returns the name of a recovery in recoveriesKey.
func recoveryMember(r *core.Recovery) string { return memberOf(r.Endpoint) + "/" + r.ID }

// Recovery returns a recovery of an endpoint. One that does not exist, or not any
// more, is a core.CodeNotFound error.
func (s *Store) Recovery(ctx context.Context, ref core.EndpointRef, id string) (*core.Recovery, error) {
	defer s.metrics.took(opRecover, time.Now())
	record, err := s.client.HGet(ctx, recoverKey(ref.ID), id).Result()
	if errors.Is(err, redis.Nil) {
		return nil, core.NotFound("recovery")
	}
	if err != nil {
		return nil, s.fail(opRecover, err)
	}
	return decodeRecovery(ref, id, record)
}

// claimRecoveryScript claims the recovery that is longest overdue.
//
// KEYS: recoveriesKey. ARGV: lease in ms. Reply: ms until the next is due, 0 for
// unknown or none; then, if one is, its member.
var claimRecoveryScript = redis.NewScript(luaNow + luaText + `
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if not first[1] then return {'0'} end
if tonumber(first[2]) > now then return {text(tonumber(first[2]) - now)} end
redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[1])), first[1])
return {'0', first[1]}
`)

// ClaimRecovery claims the recovery that has waited longest for its next step, for
// the time of that step. nil stands for none; then next is the time until another one
// is due, 0 for unknown.
func (s *Store) ClaimRecovery(ctx context.Context) (r *core.Recovery, next time.Duration, err error) {
	defer s.metrics.took(opRecover, time.Now())
	reply, err := claimRecoveryScript.Run(ctx, s.client, []string{recoveriesKey}, recoveryLease.Milliseconds()).StringSlice()
	if err != nil {
		return nil, 0, s.fail(opRecover, err)
	}
	if len(reply) < 2 {
		var p numbers
		return nil, time.Duration(p.integer(reply[0])) * time.Millisecond, nil
	}
	member := reply[1]
	i := strings.LastIndexByte(member, '/')
	ref, id := refOf(member[:max(i, 0)]), member[i+1:]
	r, err = s.Recovery(ctx, ref, id)
	switch {
	case core.CodeOf(err) == core.CodeNotFound || err == nil && r.State != core.RecoveryRunning:
		// Its endpoint was deleted, or a runner was killed after the last step.
		return nil, time.Millisecond, s.dropRecovery(ctx, &core.Recovery{ID: id, Endpoint: ref})
	case err != nil:
		return nil, 0, err
	}
	return r, 0, nil
}

// stepScript notes the state of a recovery after a step, and removes the dead letters
// that were replayed by it. It does nothing if somebody else made that step, or the
// recovery is gone.
//
// KEYS: recoverKey, deadKey, deadIndexKey. ARGV: id, version before the step, record,
// lifetime in ms, 1 if it has ended, entries. Reply: how many dead letters were
// removed; -1: nothing was done.
var stepScript = redis.NewScript(luaRemoveLetters + `
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record or string.sub(record, 1, #ARGV[2] + 1) ~= ARGV[2] .. ' ' then return -1 end
local gone = removed(KEYS[2], KEYS[3], 6)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[5] == '1' and redis.call('HGET', KEYS[1], ':running') == ARGV[1] then redis.call('HDEL', KEYS[1], ':running') end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return gone
`)

// StepRecovery notes the state of r after a step, removes the dead letters that were
// replayed by it, and has the next step made at once. It reports false, and has
// changed nothing, if another runner made that step, or the endpoint was deleted.
func (s *Store) StepRecovery(ctx context.Context, r *core.Recovery, replayed []string) (done bool, err error) {
	defer s.metrics.took(opRecover, time.Now())
	next := *r
	next.Version = core.NewToken()
	record, err := encodeRecovery(&next)
	if err != nil {
		return false, err
	}
	ended := r.State != core.RecoveryRunning
	args := []any{r.ID, r.Version, record, core.RecoveryLifetime.Milliseconds(), 0}
	if ended {
		args[4] = 1
	}
	for _, entry := range replayed {
		args = append(args, entry)
	}
	ref := r.Endpoint
	gone, err := stepScript.Run(ctx, s.client, []string{recoverKey(ref.ID), deadKey(ref.ID), deadIndexKey(ref.ID)}, args...).Int()
	if err != nil {
		return false, s.fail(opRecover, err)
	}
	if gone < 0 {
		return false, nil
	}
	s.metrics.replayed.Add(float64(gone))
	s.forgetReplayed(ctx, ref, replayed)
	r.Version = next.Version
	if ended {
		return true, s.dropRecovery(ctx, r)
	}
	return true, s.lookAtRecovery(ctx, r, 0, "XX")
}

// DeferRecovery has the next step of r made after wait.
func (s *Store) DeferRecovery(ctx context.Context, r *core.Recovery, wait time.Duration) error {
	defer s.metrics.took(opRecover, time.Now())
	return s.lookAtRecovery(ctx, r, wait, "XX")
}

// encodeRecovery returns a record: the version, a space, and the rest in JSON.
func encodeRecovery(r *core.Recovery) (string, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode recovery: %w", err)
	}
	return r.Version + " " + string(body), nil
}

func decodeRecovery(ref core.EndpointRef, id, record string) (*core.Recovery, error) {
	version, body, _ := strings.Cut(record, " ")
	r := &core.Recovery{}
	if err := json.Unmarshal([]byte(body), r); err != nil {
		return nil, fmt.Errorf("decode recovery %s of endpoint %s: %w", strconv.Quote(id), ref.ID, err)
	}
	r.ID, r.Endpoint, r.Version = id, ref, version
	return r, nil
}
