package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// A claim on an idempotency key is a hash with the fields `hash` (of the body),
// `event` (the event id), `owner` and `until` (the end of the owner's lease, in
// ms), and once it is finished `answer`. Until then a field that begins with + is a note
// (core.AppendNote) of what is stored already. Leases are measured by Redis's clock
// alone.

// The first value of beginScript's reply.
const (
	replyGranted int64 = iota + 1
	replyTakenOver
	replyAnswered
	replyPending
	replyMismatch
)

// beginScript claims an idempotency key. A claim repeated by its owner, after a
// lost reply, is the same claim.
//
// KEYS: idempotencyKey. ARGV: body hash, owner, event id, lease in ms, lifetime
// in ms. Reply: {1} granted; {2, event id, notes} taken over; {3, answer} answered;
// {4, rest of the lease in ms} pending; {5} another body.
var beginScript = redis.NewScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local till = string.format('%.0f', now + tonumber(ARGV[4]))
local claim = redis.call('HMGET', KEYS[1], 'hash', 'event', 'owner', 'until', 'answer')
if not claim[1] then
	redis.call('HSET', KEYS[1], 'hash', ARGV[1], 'event', ARGV[3], 'owner', ARGV[2], 'until', till)
	redis.call('PEXPIRE', KEYS[1], ARGV[5])
	return {1}
end
if claim[1] ~= ARGV[1] then return {5} end
if claim[5] then return {3, claim[5]} end
if claim[3] ~= ARGV[2] then
	local rest = tonumber(claim[4]) - now
	if rest > 0 then return {4, rest} end
end
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'until', till)
local reply = {2, claim[2]}
if redis.call('HLEN', KEYS[1]) > 4 then
	for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
		if string.byte(field) == 43 then reply[#reply+1] = string.sub(field, 2) end
	end
end
if claim[3] == ARGV[2] and claim[2] == ARGV[3] and not reply[3] then return {1} end
return reply
`)

// Begin reads the version tokens of organizations, "" where there is none, claims
// idempotency keys, and takes from quotas, in order and in one round trip. Both
// results are parallel to the arguments; what became of draws is noted in them.
// After an error any of the claims may have been made, and anything taken; it is
// safe to call again with the same owners.
func (s *Store) Begin(ctx context.Context, organizations []string, rs []core.Reservation, draws core.Draws) ([]string, []core.ReservationState, error) {
	if len(organizations)+len(rs) == 0 {
		return nil, nil, nil
	}
	defer s.metrics.took(opBegin, time.Now())
	b := s.batch()
	tokens := make([]*redis.StringCmd, len(organizations))
	for i, organization := range organizations {
		tokens[i] = b.Get(ctx, versionKey(organization))
	}
	claims := make([]*redis.Cmd, len(rs))
	for i := range rs {
		claims[i] = b.claim(ctx, &rs[i])
	}
	drawn := b.draw(ctx, draws)
	if err := b.exec(ctx); err != nil {
		return nil, nil, s.fail(opBegin, err)
	}
	if err := noteDrawn(draws.Requests, drawn); err != nil {
		return nil, nil, s.fail(opBegin, err)
	}
	versions := make([]string, len(organizations))
	for i, token := range tokens {
		versions[i] = token.Val()
	}
	states := make([]core.ReservationState, len(rs))
	for i, claim := range claims {
		state, err := parseState(claim)
		if err != nil {
			return nil, nil, s.fail(opBegin, err)
		}
		states[i] = state
	}
	if err := s.confirm(ctx, rs, states); err != nil {
		return nil, nil, s.fail(opBegin, err)
	}
	return versions, states, nil
}

// claim adds the claim on an idempotency key.
func (b *batch) claim(ctx context.Context, r *core.Reservation) *redis.Cmd {
	return b.run(ctx, beginScript, []string{idempotencyKey(r.Organization, r.Key)},
		r.BodyHash[:], r.Owner, r.EventID, core.ReservationLease.Milliseconds(), core.IdempotencyLifetime.Milliseconds())
}

// confirm makes sure that no answer is given again, and no note believed, before
// what it speaks of is stored as Durability asks: both may have been stored by a gateway
// that was never told that a replica has them. The claim is made again over the connection that
// is confirmed, behind a write, so that what is read is what is waited for, whichever
// server has become the master meanwhile; one that has never heard of the claim
// grants it.
func (s *Store) confirm(ctx context.Context, rs []core.Reservation, states []core.ReservationState) error {
	if s.durable == s.client {
		return nil
	}
	var indexes []int
	var claims []*redis.Cmd
	b := s.durableBatch()
	for i := range states {
		if states[i].Kind == core.ReservationAnswered || len(states[i].Stored) > 0 {
			indexes, claims = append(indexes, i), append(claims, b.claim(ctx, &rs[i]))
		}
	}
	if len(claims) == 0 {
		return nil
	}
	b.Set(ctx, fenceKey, "", 0)
	if err := b.exec(ctx); err != nil {
		return err
	}
	for k, i := range indexes {
		state, err := parseState(claims[k])
		if err != nil {
			return err
		}
		states[i] = state
	}
	return nil
}

func parseState(reply *redis.Cmd) (core.ReservationState, error) {
	values, err := reply.Slice()
	if err != nil {
		return core.ReservationState{}, err
	}
	if len(values) == 0 {
		return core.ReservationState{}, errors.New("empty reply to a claim")
	}
	kind, _ := values[0].(int64)
	if kind == replyTakenOver && len(values) < 2 {
		return core.ReservationState{}, fmt.Errorf("reply %v to a claim", values)
	}
	var text string
	var number int64
	if len(values) > 1 {
		text, _ = values[1].(string)
		number, _ = values[1].(int64)
	}
	switch kind {
	case replyGranted:
		return core.ReservationState{Kind: core.ReservationGranted}, nil
	case replyTakenOver:
		return core.ReservationState{Kind: core.ReservationTakenOver, EventID: text, Stored: readNotes(values[2:])}, nil
	case replyAnswered:
		return core.ReservationState{Kind: core.ReservationAnswered, Answer: []byte(text)}, nil
	case replyPending:
		return core.ReservationState{Kind: core.ReservationPending, RetryAfter: time.Duration(number) * time.Millisecond}, nil
	case replyMismatch:
		return core.ReservationState{Kind: core.ReservationMismatch}, nil
	}
	return core.ReservationState{}, fmt.Errorf("reply %v to a claim", values)
}

// readNotes reads the notes in the reply to a claim.
func readNotes(values []any) core.Stored {
	if len(values) == 0 {
		return nil
	}
	notes := make([]string, len(values))
	for i, value := range values {
		notes[i], _ = value.(string)
	}
	return core.ReadNotes(notes)
}

// luaKeep defines held, which says whether a claim is still the owner's, and keep,
// which stores text with one that is: its answer, for a lifetime in ms, or a note, if the
// lifetime is empty. It returns 1 if it has, 0 if the claim is another's or gone. With
// the answer the notes go: it says the same.
const luaKeep = `
local function held(claim, owner) return redis.call('HGET', claim, 'owner') == owner end

local function keep(claim, owner, text, lifetime)
	if not held(claim, owner) then return 0 end
	if lifetime == '' then
		redis.call('HSET', claim, '+' .. text, '')
		return 1
	end
	redis.call('HSET', claim, 'answer', text)
	if redis.call('HLEN', claim) > 5 then
		local notes = {}
		for _, field in ipairs(redis.call('HKEYS', claim)) do
			if string.byte(field) == 43 then notes[#notes+1] = field end
		end
		for i = 1, #notes, 1000 do redis.call('HDEL', claim, unpack(notes, i, math.min(i + 999, #notes))) end
	end
	redis.call('PEXPIRE', claim, lifetime)
	return 1
end
`

// finishScript stores the answer of a claim.
//
// KEYS: idempotencyKey. ARGV: owner, answer, lifetime in ms. Reply: that of keep.
var finishScript = redis.NewScript(luaKeep + `return keep(KEYS[1], ARGV[1], ARGV[2], ARGV[3])`)

// Keeping is Finish as a part of another script, of one that stores what the answer
// speaks of, or a part of that. The two are atomic then; a Redis Cluster has their keys
// in different places.
type Keeping struct{}

// Lua defines the local functions held(key, a), which says whether a claim is still
// its owner's, and keep(key, a, b, c), which stores an answer or a note and returns 1,
// or 0 when the claim is not.
func (Keeping) Lua() string { return luaKeep }

// Answer returns the arguments of both for a claim and its answer.
func (Keeping) Answer(r *core.Reservation) (key string, args [3]any) {
	return idempotencyKey(r.Organization, r.Key), [3]any{r.Owner, r.Answer, core.IdempotencyLifetime.Milliseconds()}
}

// Note returns the arguments of both for a claim and a note.
func (Keeping) Note(r *core.Reservation, note []byte) (key string, args [3]any) {
	return idempotencyKey(r.Organization, r.Key), [3]any{r.Owner, note, ""}
}

// Finish stores the answers of claims, to be given again for
// core.IdempotencyLifetime from now, in one round trip. A claim that another
// request has taken over stays with that one. It may be called again.
func (s *Store) Finish(ctx context.Context, rs []core.Reservation) error {
	if len(rs) == 0 {
		return nil
	}
	defer s.metrics.took(opFinish, time.Now())
	b := s.batch()
	for i := range rs {
		key, args := Keeping{}.Answer(&rs[i])
		b.run(ctx, finishScript, []string{key}, args[:]...)
	}
	return s.fail(opFinish, b.exec(ctx))
}

// releaseScript forgets a claim that is still the owner's and not finished.
//
// KEYS: idempotencyKey. ARGV: owner. Reply: 1 forgotten; 0 not.
var releaseScript = redis.NewScript(`
local claim = redis.call('HMGET', KEYS[1], 'owner', 'answer')
if claim[1] ~= ARGV[1] or claim[2] then return 0 end
return redis.call('DEL', KEYS[1])
`)

// Release forgets claims whose requests have definitely failed, in one round
// trip. A claim that is finished or another's stays. It may be called again.
func (s *Store) Release(ctx context.Context, rs []core.Reservation) error {
	if len(rs) == 0 {
		return nil
	}
	defer s.metrics.took(opRelease, time.Now())
	b := s.batch()
	for i := range rs {
		b.run(ctx, releaseScript, []string{idempotencyKey(rs[i].Organization, rs[i].Key)}, rs[i].Owner)
	}
	return s.fail(opRelease, b.exec(ctx))
}
