package redisstore

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

// replayedLifetime is how long it is known after the last replay at an endpoint which
// of its dead letters wait in fresh deliveries although they are still there.
const replayedLifetime = 24 * time.Hour

// replayScript adds fresh deliveries of dead letters to a backlog as parkScript does,
// each letter once: what was added for it before stays the only one. It adds all or,
// when Redis is full, nothing.
//
// KEYS: those of parkScript, replayedKey. ARGV: those of parkScript before the frames,
// lifetime in ms, then entry, id of the fresh delivery and frame of each. Reply: how
// many deliveries are too many, as text, and the id of the delivery of each letter.
var replayScript = redis.NewScript(luaBacklog + `
local added, ids = 0, {}
for i = 9, #ARGV, 3 do
	local known = redis.call('HGET', KEYS[9], ARGV[i])
	ids[#ids+1] = known or ARGV[i+1]
	if not known then
		redis.call('HSET', KEYS[9], ARGV[i], ARGV[i+1])
		add(ARGV[i+2])
		added = added + 1
	end
end
redis.call('PEXPIRE', KEYS[9], ARGV[8])
` + luaParked + `
return {text(math.min(excess, count)), unpack(ids)}
`)

// Replay puts fresh deliveries of dead letters, which entries name in p's order, into
// the backlog of their endpoint as Park does. A letter for which that was done before
// is not put there again until RemoveReplayed, or StepRecovery, has removed it: so a
// call whose answer was lost may be repeated, with deliveries of other ids. ids are
// those of the deliveries that wait, parallel to entries; excess is by how many the
// backlog is above its bounds.
//
// After an error some of the deliveries may be stored.
func (s *Store) Replay(ctx context.Context, p core.Parking, entries []string) (ids []string, excess int, err error) {
	defer s.metrics.took(opPark, time.Now())
	keys, head := s.parkArgs(&p)
	keys, head = append(keys, replayedKey(p.Endpoint.ID)), append(head, replayedLifetime.Milliseconds())
	e := s.encoders.Get().(*frame.Encoder)
	defer func() {
		if e.Retainable() {
			s.encoders.Put(e)
		}
	}()
	for next := 0; next < len(entries); {
		args, size, first := append([]any(nil), head...), 0, next
		for next < len(entries) && next-first < maxParkChunk && size < maxParkBytes {
			encoded, err := e.Encode(p.Deliveries[next : next+1])
			if err != nil {
				return nil, 0, &core.Error{Code: core.CodeTooLarge, Detail: "the event is too large for a backlog", Err: err}
			}
			args = append(args, entries[next], p.Deliveries[next].ID, bytes.Clone(encoded))
			size, next = size+len(encoded), next+1
		}
		reply, err := s.runDurably(ctx, replayScript, keys, args...).StringSlice()
		if err == nil && len(reply) != 1+next-first {
			err = fmt.Errorf("%d values in the reply about %d letters", len(reply), next-first)
		}
		if err == nil {
			excess, err = strconv.Atoi(reply[0])
		}
		if err != nil {
			return nil, 0, s.fail(opPark, err)
		}
		ids = append(ids, reply[1:]...)
	}
	return ids, excess, nil
}

// forgetReplayed forgets that dead letters which are gone wait in fresh deliveries. It
// is best effort: what stays has an end of its own.
func (s *Store) forgetReplayed(ctx context.Context, ref core.EndpointRef, entries []string) {
	if len(entries) == 0 {
		return
	}
	if err := s.client.HDel(ctx, replayedKey(ref.ID), entries...).Err(); err != nil {
		s.metrics.failed(opRemoveDeadLetters)
	}
}
