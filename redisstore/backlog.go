package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

// maxBacklogRead bounds the deliveries of one read of a backlog, in bytes as they are
// in memory afterwards. A single one may be larger.
const maxBacklogRead = 4 << 20

// backlogScript reads the next entries of a backlog until there are enough of them
// or of the bytes of their frames once these are decoded.
//
// KEYS: backlogKey. ARGV: where to begin as for XRANGE, most entries, most bytes.
// Reply: id and frame of each entry.
var backlogScript = redis.NewScript(luaPage + luaDecoded + `
local function size(entry) return decoded(entry[2][2]) end
local reply = {}
for _, entry in ipairs(page('XRANGE', KEYS[1], ARGV[1], '+', tonumber(ARGV[2]), tonumber(ARGV[3]), size)) do
	reply[#reply+1] = entry[1]
	reply[#reply+1] = entry[2][2]
end
return reply
`)

// Backlog returns the next deliveries of an endpoint's backlog, oldest first: those
// after the entry `after`, or from the oldest if that is "". It returns up to limit,
// and fewer when they are more than 4 MiB: more may follow unless it returns none.
//
// An entry that cannot be read, because a newer version wrote it, ends the list: the
// entries before it are returned, and a call that begins with it returns an error,
// which is a frame.ErrUndecodable and names it. The entry stays.
func (s *Store) Backlog(ctx context.Context, ref core.EndpointRef, after string, limit int) ([]core.Waiting, error) {
	if limit < 1 {
		return nil, nil
	}
	defer s.metrics.took(opReadBacklog, time.Now())
	from := "-"
	if after != "" {
		from = "(" + after
	}
	reply, err := backlogScript.Run(ctx, s.client, []string{backlogKey(ref.ID)}, from, limit, maxBacklogRead).StringSlice()
	if err != nil {
		return nil, s.fail(opReadBacklog, err)
	}
	waiting := make([]core.Waiting, 0, len(reply)/2)
	for i := 0; i+1 < len(reply); i += 2 {
		entry, stored := reply[i], reply[i+1]
		ds, err := frame.Decode([]byte(stored))
		if err == nil && len(ds) != 1 {
			err = fmt.Errorf("%w: %d deliveries in one entry", frame.ErrUndecodable, len(ds))
		}
		if err != nil && len(waiting) > 0 {
			return waiting, nil
		}
		if err != nil {
			return nil, fmt.Errorf("entry %s in the backlog of endpoint %s: %w", entry, ref.ID, err)
		}
		waiting = append(waiting, core.Waiting{Entry: entry, Size: len(stored), Delivery: ds[0]})
	}
	return waiting, nil
}

// drainedScript removes entries from a backlog, those that are still there.
//
// KEYS: backlogKey, sizesKey, totalsKey. ARGV: endpoint id, then entry and size of
// each.
var drainedScript = redis.NewScript(`
local gone, bytes = 0, 0
for i = 2, #ARGV, 2 do
	if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
		gone, bytes = gone + 1, bytes + tonumber(ARGV[i+1])
	end
end
if gone > 0 then
	redis.call('HINCRBY', KEYS[2], ARGV[1], -bytes)
	redis.call('HINCRBY', KEYS[3], 'deliveries', -gone)
	redis.call('HINCRBY', KEYS[3], 'bytes', -bytes)
end
return gone
`)

// writeDrained adds the removal of d to the batch.
func writeDrained(ctx context.Context, b *batch, d *core.Drained) {
	if len(d.Entries) == 0 {
		return
	}
	args := make([]any, 0, 1+2*len(d.Entries))
	args = append(args, d.Endpoint.ID)
	for i := range d.Entries {
		args = append(args, d.Entries[i].Entry, d.Entries[i].Size)
	}
	b.run(ctx, drainedScript, []string{backlogKey(d.Endpoint.ID), sizesKey, totalsKey}, args...)
}

// forgetScript removes an endpoint's backlog and all that is known about it.
//
// KEYS: backlogKey, waitingKey, ownersKey, conditionsKey, failingKey, sizesKey,
// totalsKey, replayedKey. ARGV: member, endpoint id.
var forgetScript = redis.NewScript(`
local count = redis.call('XLEN', KEYS[1])
local size = tonumber(redis.call('HGET', KEYS[6], ARGV[2]) or 0)
redis.call('UNLINK', KEYS[1], KEYS[8])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
for i = 4, 6 do redis.call('HDEL', KEYS[i], ARGV[2]) end
if count > 0 then redis.call('HINCRBY', KEYS[7], 'deliveries', -count) end
if size ~= 0 then redis.call('HINCRBY', KEYS[7], 'bytes', -size) end
return 1
`)

// writeForgotten adds the removal of an endpoint's backlog to the batch.
func writeForgotten(ctx context.Context, b *batch, ref core.EndpointRef) {
	keys := []string{backlogKey(ref.ID), waitingKey, ownersKey, conditionsKey, failingKey, sizesKey, totalsKey, replayedKey(ref.ID)}
	b.run(ctx, forgetScript, keys, memberOf(ref), ref.ID)
}

// maxOverviewConditions is up to how many conditions BacklogOverview tells apart.
const maxOverviewConditions = 10_000

// overviewScript counts. Conditions that have ended by themselves do not count,
// unless there are too many to look at.
//
// KEYS: waitingKey, ownersKey, conditionsKey, totalsKey. ARGV: up to how many
// conditions are told apart. Reply: endpoints waiting, claims, deliveries, bytes, ms
// by which the longest overdue is late, conditions, then state and number of each.
var overviewScript = redis.NewScript(luaNow + `
local late, first = 0, redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if first[2] then late = math.max(0, now - tonumber(first[2])) end
local conditions, states = redis.call('HLEN', KEYS[3]), {}
if conditions <= tonumber(ARGV[1]) then
	conditions = 0
	for _, line in ipairs(redis.call('HVALS', KEYS[3])) do
		local rank, state, ends = string.match(line, '^(%d+) (%S+) %S+ (%d+) ')
		if rank and (tonumber(rank) >= 3 or tonumber(ends) > now) then
			conditions = conditions + 1
			states[state] = (states[state] or 0) + 1
		end
	end
end
local reply = {
	redis.call('ZCARD', KEYS[1]), redis.call('HLEN', KEYS[2]),
	tonumber(redis.call('HGET', KEYS[4], 'deliveries') or 0), tonumber(redis.call('HGET', KEYS[4], 'bytes') or 0),
	late, conditions,
}
for state, n in pairs(states) do
	reply[#reply+1] = state
	reply[#reply+1] = n
end
return reply
`)

// BacklogOverview returns how much waits in all backlogs.
func (s *Store) BacklogOverview(ctx context.Context) (core.BacklogOverview, error) {
	defer s.metrics.took(opReadBacklogs, time.Now())
	reply, err := overviewScript.Run(ctx, s.client, []string{waitingKey, ownersKey, conditionsKey, totalsKey}, maxOverviewConditions).Slice()
	if err != nil {
		return core.BacklogOverview{}, s.fail(opReadBacklogs, err)
	}
	const counts = 6
	if len(reply) < counts || len(reply)%2 != 0 {
		return core.BacklogOverview{}, s.fail(opReadBacklogs, fmt.Errorf("%d values in the reply about backlogs", len(reply)))
	}
	number := func(i int) int64 {
		n, _ := reply[i].(int64)
		return n
	}
	v := core.BacklogOverview{
		Endpoints: int(number(0)), Claimed: int(number(1)), Deliveries: number(2), Bytes: number(3),
		Overdue: time.Duration(number(4)) * time.Millisecond, Conditions: int(number(5)),
		ByState: make(map[core.State]int),
	}
	for i := counts; i < len(reply); i += 2 {
		state, _ := reply[i].(string)
		v.ByState[core.State(state)] = int(number(i + 1))
	}
	return v, nil
}
