package queue

import (
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// Finishing tells how the answer of a reservation is kept, so that it is kept by
// the very script that stores a task: then neither is ever there without the other,
// wherever a gateway dies or a connection breaks. The keys of both have to be within
// reach of one script, which they are not in a Redis Cluster.
type Finishing interface {
	// Lua defines the local functions held(key, a), which says whether the reservation
	// is still its owner's, and finish(key, a, b, c), which keeps the answer and returns
	// 1 if it has.
	Lua() string
	// Claim returns their arguments for a reservation.
	Claim(r *core.Reservation) (key string, args [3]any)
}

// notingLua runs asynq's script and then keeps the answers: whatever happens to
// those, it must not make a failure of what has been stored. When a reservation is
// another's by now, nothing is stored: the other one stores it, or has.
//
// KEYS: asynq's; the key without which the task is good for nothing; the claims.
// ARGV: asynq's; three for each claim; how many KEYS and ARGV are asynq's. Reply:
// asynq's reply, and how many answers were kept; or an error.
const notingLua = `
%s
local keys, args = tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
for i = 1, #KEYS - keys - 1 do
	if not held(KEYS[keys + 1 + i], ARGV[args + 3 * i - 2]) then
		return redis.error_reply('TAKENOVER a reservation is held by another request')
	end
end
local reply = (function()
%s
end)()
local kept = 0
if redis.call('EXISTS', KEYS[keys + 1]) == 1 then
	for i = 1, #KEYS - keys - 1 do
		local a = args + 3 * i - 2
		local ok, n = pcall(finish, KEYS[keys + 1 + i], ARGV[a], ARGV[a + 1], ARGV[a + 2])
		if ok then kept = kept + n end
	end
end
return {reply, kept}
`

// noter is the wrapping that keeps answers, too.
type noter struct {
	wrapping
	finishing Finishing
}

func newNoter(f Finishing) *noter {
	return &noter{finishing: f, wrapping: wrapping{wrap: func(text string) string { return fmt.Sprintf(notingLua, f.Lua(), text) }}}
}

// extend returns asynq's keys and arguments, of which the first key is the task, and
// behind them what notingLua needs.
func (n *noter) extend(keys []string, args []any, with *companions) ([]string, []any) {
	keyed, needed := with.keyed, keys[0]
	if with.blobKey != "" {
		needed = with.blobKey
	}
	allKeys := append(slices.Grow(slices.Clip(keys), 1+len(keyed)), needed)
	allArgs := slices.Grow(slices.Clip(args), 3*len(keyed)+2)
	for i := range keyed {
		key, more := n.finishing.Claim(&keyed[i].Reservation)
		allKeys = append(allKeys, key)
		allArgs = append(allArgs, more[:]...)
	}
	return allKeys, append(allArgs, len(keys), len(args))
}

// kept makes asynq's reply of that of notingLua, and returns how many answers were
// kept.
func kept(cmd *redis.Cmd) int {
	values, err := cmd.Slice()
	if err != nil {
		return 0
	}
	if len(values) != 2 {
		cmd.SetErr(fmt.Errorf("%d values in the reply to a task with answers", len(values)))
		return 0
	}
	cmd.SetVal(values[0])
	n, _ := values[1].(int64)
	return int(n)
}

// within returns those of keyed that speak of deliveries in p only. keyed is in
// order.
func within(keyed []core.Keyed, p part) []core.Keyed {
	from, _ := slices.BinarySearchFunc(keyed, p.from, func(k core.Keyed, from int) int { return k.From - from })
	to := from
	for to < len(keyed) && keyed[to].To <= p.to {
		to++
	}
	return keyed[from:to]
}
