package redisstore

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

const (
	// maxParkChunk and maxParkBytes bound the deliveries and the bytes of frames
	// that one script adds to a backlog, the latter also what one pipeline carries.
	// A single frame may be larger.
	maxParkChunk = 256
	maxParkBytes = 4 << 20
)

// backlogLimits bound the backlog of an endpoint; see Options.
type backlogLimits struct{ count, bytes int }

// luaNow sets now to the time of Redis in Unix ms. luaRing defines ring, which
// wakes one who waits in AwaitBacklogs, or the next one who comes. luaText defines
// text, which writes a great number in full.
const (
	luaNow = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
`
	luaRing = `
local function ring(bell)
	redis.call('LPUSH', bell, '')
	redis.call('LTRIM', bell, 0, 15)
end
`
	luaText = `
local function text(number) return string.format('%.0f', number) end
`
)

// parkScript adds deliveries to a backlog and sees to it that somebody looks there; it
// notes why. Each claim under which they are stored gets a note of its part. It adds all
// or, when Redis is full or a claim is another's by now, nothing.
//
// A condition is noted when it is graver than the one there is, or as grave and
// longer; catching up ends when a drain says so. One that has ended by itself is
// none. What is known of the head of the backlog is kept.
//
// KEYS: backlogKey, waitingKey, ownersKey, conditionsKey, failingKey, sizesKey,
// totalsKey, backlogBellKey, claims. ARGV: member, endpoint id, condition or empty,
// failing or empty, when to look in Unix ms or empty for at once, most deliveries, most
// bytes, frames, three for each claim as for keep. Reply: how many deliveries are too
// many.
var parkScript = redis.NewScript(luaKeep + luaBacklog + `
local claims = #KEYS - 8
local frames = #ARGV - 3 * claims
for i = 1, claims do
	if not held(KEYS[8 + i], ARGV[frames + 3 * i - 2]) then
		return redis.error_reply('TAKENOVER a reservation is held by another request')
	end
end
local added = frames - 7
for i = 8, frames do add(ARGV[i]) end
for i = 1, claims do
	local a = frames + 3 * i - 2
	pcall(keep, KEYS[8 + i], ARGV[a], ARGV[a + 1], ARGV[a + 2]) -- what is added needs the rest, too
end
` + luaParked + `
return math.min(excess, count)
`)

// luaBacklog names the keys and the first arguments of parkScript, and defines add,
// which adds a frame to the backlog. luaParked does what is to be done when `added` of
// them were added.
const (
	luaBacklog = luaNow + luaRing + luaText + `
local stream, waiting, owners, conditions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local failing, sizes, totals, bell = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local member, id, condition, since, due = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local bytes = 0
local function add(frame)
	redis.call('XADD', stream, '*', 'd', frame)
	bytes = bytes + #frame
end
`
	luaParked = `
local function weigh(line)
	local rank, ends = string.match(line or '', '^(%d+) %S+ %S+ (%d+) ')
	return tonumber(rank or 0), tonumber(ends or 0)
end
local old = redis.call('HGET', conditions, id)
local rank, ends = weigh(old)
if rank < 3 and ends <= now then rank, ends = 0, 0 end
local newRank, newEnds = weigh(condition)
if newRank > rank or newRank == rank and newRank < 4 and newEnds > ends then
	rank, ends = newRank, newEnds
	local known = string.match(old or '', '^%S+ %S+ %S+ %S+ %S+ (.+)$')
	local reason, head = string.match(condition, '^(%S+ %S+ %S+ %S+ %S+) %S+ (.*)$')
	if known and head == '' then condition = reason .. ' ' .. known end
	redis.call('HSET', conditions, id, condition)
end
if since ~= '' then redis.call('HSETNX', failing, id, since) end

if added > 0 then
	redis.call('HINCRBY', sizes, id, bytes)
	redis.call('HINCRBY', totals, 'deliveries', added)
	redis.call('HINCRBY', totals, 'bytes', bytes)
	local barred = rank == 2 and ends > now or rank == 3 -- a look is arranged for its end
	local look = redis.call('ZSCORE', waiting, member)
	local at
	if not look then
		at = now
		if due ~= '' then at = tonumber(due) elseif barred then at = math.max(now, ends) end
	elseif due == '' and not barred and tonumber(look) > now and redis.call('HEXISTS', owners, member) == 0 then
		at = now
	end
	if at then
		redis.call('ZADD', waiting, text(at), member)
		if at <= now then ring(bell) end
	end
end

local count, size = redis.call('XLEN', stream), tonumber(redis.call('HGET', sizes, id) or 0)
local excess = math.max(0, count - tonumber(ARGV[6]))
local over = size - tonumber(ARGV[7])
if over > 0 and count > 0 then excess = math.max(excess, math.ceil(over * count / size)) end
if excess > 0 and added > 0 and redis.call('HEXISTS', owners, member) == 0 then
	redis.call('ZADD', waiting, text(now), member)
	ring(bell)
end
`
)

// Park puts deliveries into the backlogs of their endpoints and notes why; parked
// is parallel to ps. An endpoint's backlog is looked at by Due, unless it is claimed
// or a look at it is arranged already. Without a Due it is looked at once, but a
// paused or failing endpoint when its condition says so. One that is above its bounds
// is looked at once in any case.
//
// With the deliveries a note is kept that they are stored, for each reservation under
// which they are, and none is stored for one that another request holds by now. That
// cannot be done in a Redis Cluster.
//
// After an error parked tells which parkings are stored all the same. Of the others
// some deliveries may be: repeating them may park them twice, which delivers them
// twice. The error is never core.ErrNotStored, not even where Redis refused all: what
// one pipeline carries is not one thing that is stored or not.
func (s *Store) Park(ctx context.Context, ps []core.Parking) (parked []core.Parked, err error) {
	if len(ps) == 0 {
		return nil, nil
	}
	defer s.metrics.took(opPark, time.Now())
	k := parker{s: s, b: s.durableBatch(), replies: make([][]*redis.Cmd, len(ps))}
	e := s.encoders.Get().(*frame.Encoder)
	defer func() {
		if e.Retainable() {
			s.encoders.Put(e)
		}
	}()
	for i := range ps {
		if err = k.add(ctx, i, &ps[i], e); err != nil {
			k.replies[i] = nil // not all of its scripts are among them
			break
		}
	}
	if err == nil {
		err = k.send(ctx)
	}
	return parkedOf(k.replies), err
}

// parkedOf reads the replies to the scripts of each parking.
func parkedOf(replies [][]*redis.Cmd) []core.Parked {
	parked := make([]core.Parked, len(replies))
	for i, scripts := range replies {
		parked[i].Stored = len(scripts) > 0
		for _, reply := range scripts {
			excess, err := reply.Int() // a script that was not sent has no number for a reply
			parked[i].Stored = parked[i].Stored && err == nil
			parked[i].Excess = excess
		}
	}
	return parked
}

// parker gathers the scripts of a Park and sends them when they are large enough.
type parker struct {
	s       *Store
	b       *batch
	size    int            // bytes of frames in b
	replies [][]*redis.Cmd // to the scripts of each parking
}

// add adds the scripts of a parking.
func (k *parker) add(ctx context.Context, index int, p *core.Parking, e *frame.Encoder) error {
	keys, head := k.s.parkArgs(p)
	for from := 0; ; {
		args, size, to := append(make([]any, 0, len(head)+min(len(p.Deliveries)-from, maxParkChunk)), head...), 0, from
		for to < len(p.Deliveries) && to-from < maxParkChunk && size < maxParkBytes {
			encoded, err := e.Encode(p.Deliveries[to : to+1])
			if err != nil {
				return &core.Error{Code: core.CodeTooLarge, Detail: "the event is too large for a backlog", Err: err}
			}
			args, size, to = append(args, bytes.Clone(encoded)), size+len(encoded), to+1
		}
		claims, args := k.s.noteParked(p, from, to, keys, args)
		k.replies[index] = append(k.replies[index], k.b.run(ctx, parkScript, claims, args...))
		if k.size += size; k.size >= maxParkBytes {
			if err := k.send(ctx); err != nil {
				return err
			}
		}
		if from = to; from == len(p.Deliveries) {
			return nil
		}
	}
}

// noteParked adds to the keys and arguments of parkScript what notes that it stores p's
// deliveries from from to before to.
func (s *Store) noteParked(p *core.Parking, from, to int, keys []string, args []any) ([]string, []any) {
	if !s.ordered {
		return keys, args
	}
	keys = slices.Clip(keys)
	for i := range p.Keyed {
		if note := p.Keyed[i].Note(p.Deliveries, from, to); note != nil {
			key, more := Keeping{}.Note(&p.Keyed[i].Reservation, note)
			keys, args = append(keys, key), append(args, more[:]...)
		}
	}
	return keys, args
}

// parkArgs returns the keys of parkScript and its arguments before the frames.
func (s *Store) parkArgs(p *core.Parking) (keys []string, head []any) {
	var due any = ""
	if !p.Due.IsZero() {
		due = p.Due.UnixMilli()
	}
	keys = []string{
		backlogKey(p.Endpoint.ID), waitingKey, ownersKey, conditionsKey,
		failingKey, sizesKey, totalsKey, backlogBellKey,
	}
	return keys, []any{
		memberOf(p.Endpoint), p.Endpoint.ID, encodeCondition(&p.Condition), encodeFailing(p.Failing), due,
		s.backlogs.count, s.backlogs.bytes,
	}
}

// send makes the round trip.
func (k *parker) send(ctx context.Context) error {
	if k.b.Len() == 0 {
		return nil
	}
	err := k.b.exec(ctx)
	k.b, k.size = k.s.durableBatch(), 0
	return k.s.fail(opPark, err)
}

// memberOf returns the name of an endpoint in waitingKey and ownersKey.
func memberOf(ref core.EndpointRef) string { return ref.Organization + "/" + ref.ID }

// refOf is memberOf's reverse: no endpoint's id contains a slash.
func refOf(member string) core.EndpointRef {
	i := strings.LastIndexByte(member, '/')
	return core.EndpointRef{Organization: member[:max(i, 0)], ID: member[i+1:]}
}
