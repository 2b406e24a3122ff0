package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// drawScript takes from an organization's quota what requests ask for: of each
// all or nothing, in order. It runs after the claims of the same requests, which
// tell it what is a repetition.
//
// The bucket is a string: what it held, a space, and when that was, in µs by
// Redis's clock. A missing one is full. A clock that went back costs what would
// have been gained meanwhile; one that leapt ahead gains a full bucket at most.
//
// KEYS: quotaKey, then the idempotencyKey of each claim. ARGV: rate, burst, and
// for each request its events, the events of a claim, the number of its claims
// and their owners. Reply: what the bucket holds now as a string, and for each
// request its cost, negative if it was refused.
var drawScript = redis.NewScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local left, before = burst, redis.call('GET', KEYS[1])
if before then
	local held, at = string.match(before, '^(%S+) (%S+)$')
	left = math.min(burst, tonumber(held) + math.max(0, now - tonumber(at)) * rate / 1000000)
end
local reply, taken, key, i = {''}, 0, 2, 3
while i <= #ARGV do
	local cost, claims = tonumber(ARGV[i]), tonumber(ARGV[i+2])
	for c = 1, claims do
		local owner = redis.call('HGET', KEYS[key], 'owner')
		if not owner or owner == ARGV[i+2+c] then cost = cost + tonumber(ARGV[i+1]) end
		key = key + 1
	end
	i = i + 3 + claims
	if cost <= left then
		left, taken = left - cost, taken + cost
	else
		cost = -cost
	end
	reply[#reply+1] = cost
end
reply[1] = string.format('%.6f', left)
if taken > 0 then
	local full = string.format('%.0f', (burst - left) / rate * 1000 + 1000)
	redis.call('SET', KEYS[1], reply[1] .. ' ' .. string.format('%.0f', now), 'PX', full)
end
return reply
`)

// drawn is the answer for one organization.
type drawn struct {
	requests []int // indexes of its draws
	reply    *redis.Cmd
}

// draw adds the draws to the batch: a script for each organization.
func (b *batch) draw(ctx context.Context, draws core.Draws) []drawn {
	if len(draws.Requests) == 0 {
		return nil
	}
	index := make(map[string]int)
	var all []drawn
	for i := range draws.Requests {
		organization := draws.Requests[i].Organization
		n, ok := index[organization]
		if !ok {
			n = len(all)
			index[organization] = n
			all = append(all, drawn{})
		}
		all[n].requests = append(all[n].requests, i)
	}
	for n := range all {
		keys := []string{quotaKey(draws.Requests[all[n].requests[0]].Organization)}
		args := []any{draws.Quota.Rate, draws.Quota.Burst}
		for _, i := range all[n].requests {
			d := &draws.Requests[i]
			args = append(args, d.Events, d.PerClaim, len(d.Claims))
			for j := range d.Claims {
				keys = append(keys, idempotencyKey(d.Organization, d.Claims[j].Key))
				args = append(args, d.Claims[j].Owner)
			}
		}
		all[n].reply = b.run(ctx, drawScript, keys, args...)
	}
	return all
}

// noteDrawn fills in what became of draws.
func noteDrawn(draws []core.Draw, all []drawn) error {
	for _, o := range all {
		values, err := o.reply.Slice()
		if err != nil {
			return err
		}
		if len(values) != 1+len(o.requests) {
			return fmt.Errorf("%d values in reply to %d draws", len(values), len(o.requests))
		}
		text, _ := values[0].(string)
		left, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("reply to draws: %w", err)
		}
		for n, i := range o.requests {
			cost, ok := values[1+n].(int64)
			if !ok {
				return errors.New("reply to draws: a cost is no number")
			}
			d := &draws[i]
			d.Granted, d.Cost, d.Left = cost >= 0, int(max(cost, -cost)), max(left, 0)
		}
	}
	return nil
}
