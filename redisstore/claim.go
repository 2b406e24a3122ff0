package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

const (
	// maxAwait bounds how long AwaitBacklogs blocks: what becomes due without a ring
	// is not seen meanwhile, nor is the end of its context.
	maxAwait = 6 * time.Second
	// maxShortAwait bounds it where the wait is no whole second: such a command has
	// no more time than any other.
	maxShortAwait = 500 * time.Millisecond
	// awaitMargin is what a reply may take beyond the wait. A connection that died
	// unnoticed must not be waited for.
	awaitMargin = time.Second

	// maxBacklogRings is how many rings the bell keeps; see luaRing.
	maxBacklogRings = 16
	// endAwaitsTimeout bounds the ringing of all.
	endAwaitsTimeout = 500 * time.Millisecond
)

// claimScript claims the backlogs that are due, the longest overdue first.
//
// The scripts of claims remove something first, although that is not always
// needed: a Redis that is full refuses a script only at its first command, and
// only if that one needs memory. Claims have to work then, because drains are what
// makes room.
//
// KEYS: waitingKey, ownersKey, conditionsKey. ARGV: most claims, lease in ms,
// owner. Reply: ms until the next is due, 0 for unknown or none; then member and
// condition of each claim.
var claimScript = redis.NewScript(luaNow + luaText + `
local waiting, owners, conditions = KEYS[1], KEYS[2], KEYS[3]
local due = redis.call('ZRANGEBYSCORE', waiting, '-inf', text(now), 'LIMIT', 0, ARGV[1])
local reply = {0}
for _, member in ipairs(due) do
	redis.call('HDEL', owners, member)
	redis.call('HSET', owners, member, ARGV[3])
	redis.call('ZADD', waiting, text(now + tonumber(ARGV[2])), member)
	reply[#reply+1] = member
	reply[#reply+1] = redis.call('HGET', conditions, string.match(member, '[^/]*$')) or ''
end
if #due < tonumber(ARGV[1]) then
	local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
	if first[2] then reply[1] = math.max(1, tonumber(first[2]) - now) end
end
return reply
`)

// ClaimBacklogs claims up to limit backlogs that are due, the longest overdue first,
// for core.ClaimLease. When it claims fewer, next is the time until another one is
// due, those included that are claimed; 0 stands for none, or for unknown.
//
// A claim whose answer was lost ends with its lease.
func (s *Store) ClaimBacklogs(ctx context.Context, limit int) (claims []core.Claim, next time.Duration, err error) {
	if limit < 1 {
		return nil, 0, nil
	}
	defer s.metrics.took(opClaim, time.Now())
	owner := core.NewToken()
	reply, err := claimScript.Run(ctx, s.client, []string{waitingKey, ownersKey, conditionsKey},
		limit, core.ClaimLease.Milliseconds(), owner).Slice()
	if err != nil {
		return nil, 0, s.fail(opClaim, err)
	}
	wait, ok := reply[0].(int64)
	if !ok || len(reply)%2 != 1 {
		return nil, 0, s.fail(opClaim, fmt.Errorf("%d values in the reply to a claim", len(reply)))
	}
	for i := 1; i < len(reply); i += 2 {
		member, _ := reply[i].(string)
		condition, _ := reply[i+1].(string)
		ref := refOf(member)
		claims = append(claims, core.Claim{Endpoint: ref, Owner: owner, Condition: s.readCondition(ref.ID, condition)})
	}
	return claims, time.Duration(wait) * time.Millisecond, nil
}

// AwaitBacklogs returns nil when a backlog was parked or released that is to be
// looked at at once, or when about hold has passed: it may be less, and is 2 s at
// most. A ring wakes one caller, of whichever process, and is kept while nobody
// waits. A command that blocks does not notice that ctx ends, so the bell is rung
// then; that wakes the callers of other processes first, where they wait longer.
func (s *Store) AwaitBacklogs(ctx context.Context, hold time.Duration) error {
	if hold < time.Millisecond {
		return nil // 0 would be for ever
	}
	defer context.AfterFunc(ctx, s.endAwaits)()
	ctx, cancel := context.WithTimeout(ctx, maxAwait+awaitMargin)
	defer cancel()
	var err error
	if hold >= time.Second {
		err = s.client.BLPop(ctx, min(hold, maxAwait), backlogBellKey).Err()
	} else {
		seconds := strconv.FormatFloat(min(hold, maxShortAwait).Seconds(), 'f', 3, 64)
		err = s.client.Do(ctx, "blpop", backlogBellKey, seconds).Err()
	}
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return s.fail(opAwait, err)
}

// endAwaits rings for everybody who waits.
func (s *Store) endAwaits() {
	ctx, cancel := context.WithTimeout(context.Background(), endAwaitsTimeout)
	defer cancel()
	rings := make([]any, maxBacklogRings)
	for i := range rings {
		rings[i] = ""
	}
	if err := s.client.LPush(ctx, backlogBellKey, rings...).Err(); err != nil {
		s.metrics.failed(opAwait) // the waits end by themselves
	}
}

// luaOwner defines ownedBy, which tells whether a member is claimed by an owner, and
// whether LookAt was called since.
const luaOwner = `
local function ownedBy(owners, member, owner)
	local now = redis.call('HGET', owners, member)
	return now == owner or now == owner .. '+', now == owner .. '+'
end
`

// holdScript prolongs a claim and notes its condition; see claimScript about the
// first command.
//
// KEYS: waitingKey, ownersKey, conditionsKey. ARGV: member, endpoint id, owner,
// lease in ms, condition or empty. Reply: 1 held; 0 somebody else's.
var holdScript = redis.NewScript(luaNow + luaText + luaOwner + `
local owned, look = ownedBy(KEYS[2], ARGV[1], ARGV[3])
if not owned then return 0 end
redis.call('HDEL', KEYS[3], ARGV[2])
if ARGV[5] ~= '' and not look then redis.call('HSET', KEYS[3], ARGV[2], ARGV[5]) end
redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[4])), ARGV[1])
return 1
`)

// HoldClaim prolongs a claim by core.ClaimLease from now and notes its condition,
// whatever there is, unless LookAt was called meanwhile; see ReleaseClaim. It reports false, and has changed nothing, if the claim is
// lost: its lease ended and somebody else claimed the backlog, or the endpoint was
// forgotten. It may be called again.
func (s *Store) HoldClaim(ctx context.Context, c core.Claim) (held bool, err error) {
	defer s.metrics.took(opHoldClaim, time.Now())
	held, err = holdScript.Run(ctx, s.client, []string{waitingKey, ownersKey, conditionsKey},
		memberOf(c.Endpoint), c.Endpoint.ID, c.Owner, core.ClaimLease.Milliseconds(), encodeCondition(&c.Condition)).Bool()
	return held, s.fail(opHoldClaim, err)
}

// releaseClaimScript ends a claim. An endpoint whose backlog is empty leaves the waiting
// ones; see claimScript about the first command.
//
// KEYS: backlogKey, waitingKey, ownersKey, conditionsKey, sizesKey, totalsKey,
// backlogBellKey. ARGV: member, endpoint id, owner, condition or empty, when to look
// next in Unix ms or empty for at once, 1 if only an empty backlog is to be
// released. Reply: 1 released, or somebody else's; 0 not empty.
var releaseClaimScript = redis.NewScript(luaNow + luaRing + luaText + luaOwner + `
local stream, waiting, owners, conditions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local sizes, totals, bell = KEYS[5], KEYS[6], KEYS[7]
local member, id, due = ARGV[1], ARGV[2], ARGV[5]
local owned, look = ownedBy(owners, member, ARGV[3])
if not owned then return 1 end
local empty = redis.call('XLEN', stream) == 0
if ARGV[6] == '1' and not empty then return 0 end
redis.call('HDEL', owners, member)
redis.call('HDEL', conditions, id)
if ARGV[4] ~= '' and not look then redis.call('HSET', conditions, id, ARGV[4]) end
if empty then
	redis.call('ZREM', waiting, member)
	redis.call('DEL', stream)
	local left = tonumber(redis.call('HGET', sizes, id) or 0)
	if left ~= 0 then redis.call('HINCRBY', totals, 'bytes', text(-left)) end
	redis.call('HDEL', sizes, id)
	return 1
end
local at = now
if due ~= '' and not look then at = tonumber(due) end
redis.call('ZADD', waiting, text(at), member)
if at <= now then ring(bell) end
return 1
`)

// ReleaseClaim ends a claim and notes its condition, whatever there is. A backlog
// that is not empty is looked at again when r says. If LookAt was called since the
// claim was made it is looked at once, and the condition is not noted: it may be that
// of another URL. It reports false if r.OnlyEmpty and something waits:
// then the claim stays. A claim that is lost changes nothing and counts as
// released. It may be called again.
func (s *Store) ReleaseClaim(ctx context.Context, r core.Release) (released bool, err error) {
	defer s.metrics.took(opReleaseClaim, time.Now())
	var due, only any = "", 0
	if !r.Due.IsZero() {
		due = r.Due.UnixMilli()
	}
	if r.OnlyEmpty {
		only = 1
	}
	ref := r.Claim.Endpoint
	keys := []string{backlogKey(ref.ID), waitingKey, ownersKey, conditionsKey, sizesKey, totalsKey, backlogBellKey}
	released, err = releaseClaimScript.Run(ctx, s.client, keys,
		memberOf(ref), ref.ID, r.Claim.Owner, encodeCondition(&r.Claim.Condition), due, only).Bool()
	return released, s.fail(opReleaseClaim, err)
}

// lookScript makes a backlog due, if there is one. If it is claimed, it is looked
// at again as soon as it is released.
//
// KEYS: backlogKey, waitingKey, ownersKey, conditionsKey, failingKey,
// backlogBellKey. ARGV: member, endpoint id, 1 to forget condition and failing.
var lookScript = redis.NewScript(luaNow + luaRing + luaText + `
local stream, waiting, owners = KEYS[1], KEYS[2], KEYS[3]
local member, id = ARGV[1], ARGV[2]
if ARGV[3] == '1' then
	redis.call('HDEL', KEYS[4], id)
	redis.call('HDEL', KEYS[5], id)
end
local owner = redis.call('HGET', owners, member)
if owner then
	if string.sub(owner, -1) ~= '+' then redis.call('HSET', owners, member, owner .. '+') end
elseif redis.call('XLEN', stream) > 0 then
	redis.call('ZADD', waiting, text(now), member)
	ring(KEYS[6])
end
return 1
`)

// LookAt makes an endpoint's backlog due after the endpoint was changed; with forget
// it also forgets its condition and for how long it has done nothing but fail. A
// drain that is at work goes on, and the backlog is looked at again when it is
// done. It may be called again.
//
// A sender may use the record of before for core.RecordLifetime and park what it
// finds there until later: LookAt is to be called when that time has passed.
func (s *Store) LookAt(ctx context.Context, ref core.EndpointRef, forget bool) error {
	defer s.metrics.took(opLookAt, time.Now())
	forgets := 0
	if forget {
		forgets = 1
	}
	keys := []string{backlogKey(ref.ID), waitingKey, ownersKey, conditionsKey, failingKey, backlogBellKey}
	return s.fail(opLookAt, lookScript.Run(ctx, s.client, keys, memberOf(ref), ref.ID, forgets).Err())
}
