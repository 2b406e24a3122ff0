package queue

import (
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// Keeping tells how the answer of a reservation is kept, or a note of the part of its
// deliveries that a task holds, so that it is kept by the very script that stores the
// task: then neither is ever there without the other, wherever a gateway dies or a
// connection breaks. The keys of both have to be within reach of one script, which they
// are not in a Redis Cluster.
type Keeping interface {
	// Lua defines the local functions held(key, a), which says whether the reservation
	// is still its owner's, and keep(key, a, b, c), which keeps the answer or the note
	// and returns 1 if it has.
	Lua() string
	// Answer returns their arguments for a reservation and its answer.
	Answer(r *core.Reservation) (key string, args [3]any)
	// Note returns their arguments for a reservation and a note.
	Note(r *core.Reservation, note []byte) (key string, args [3]any)
}

// keepsake is what is kept with a task for a reservation.
type keepsake struct {
	keyed *core.Keyed
	note  []byte // nil: the answer
}

// notingLua runs asynq's script and then keeps the answers and notes: whatever happens
// to those, it must not make a failure of what has been stored. When a reservation is
// another's by now, nothing is stored: the other one stores it, or has.
//
// KEYS: asynq's; the key without which the task is good for nothing; the claims.
// ARGV: asynq's; three for each claim; how many KEYS and ARGV are asynq's. Reply:
// asynq's reply, and how many answers and notes were kept; or an error.
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
		local ok, n = pcall(keep, KEYS[keys + 1 + i], ARGV[a], ARGV[a + 1], ARGV[a + 2])
		if ok then kept = kept + n end
	end
end
return {reply, kept}
`

// noter is the wrapping that keeps answers and notes, too.
type noter struct {
	wrapping
	keeping Keeping
}

func newNoter(k Keeping) *noter {
	return &noter{keeping: k, wrapping: wrapping{wrap: func(text string) string { return fmt.Sprintf(notingLua, k.Lua(), text) }}}
}

// extend returns asynq's keys and arguments, of which the first key is the task, and
// behind them what notingLua needs.
func (n *noter) extend(keys []string, args []any, with *companions) ([]string, []any) {
	needed := keys[0]
	if with.blobKey != "" {
		needed = with.blobKey
	}
	allKeys := append(slices.Grow(slices.Clip(keys), 1+len(with.keep)), needed)
	allArgs := slices.Grow(slices.Clip(args), 3*len(with.keep)+2)
	for _, k := range with.keep {
		key, more := n.keeping.Answer(&k.keyed.Reservation)
		if k.note != nil {
			key, more = n.keeping.Note(&k.keyed.Reservation, k.note)
		}
		allKeys = append(allKeys, key)
		allArgs = append(allArgs, more[:]...)
	}
	return allKeys, append(allArgs, len(keys), len(args))
}

// kept makes asynq's reply of that of notingLua, and returns how many answers and notes
// were kept.
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

// keepsakes returns what is kept with those of ds that are in p, for keyed, which is in
// order.
func keepsakes(keyed []core.Keyed, ds []core.Delivery, p part) []keepsake {
	first, _ := slices.BinarySearchFunc(keyed, p.from, func(k core.Keyed, from int) int { return k.To - from - 1 })
	var keep []keepsake
	for i := first; i < len(keyed) && keyed[i].From < p.to; i++ {
		k := &keyed[i]
		if k.Whole(p.from, p.to) {
			keep = append(keep, keepsake{keyed: k})
		} else if note := k.Note(ds, p.from, p.to); note != nil {
			keep = append(keep, keepsake{k, note})
		}
	}
	return keep
}
