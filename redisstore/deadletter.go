package redisstore

import (
	"bytes"
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

const (
	// maxDeadChunk and maxDeadChunkBytes bound what one pipeline of dead letters
	// carries. A single one may be larger.
	maxDeadChunk      = 256
	maxDeadChunkBytes = 4 << 20
)

// deadLimits bound the dead letters of an endpoint; see Options.
type deadLimits struct {
	age          time.Duration
	count, bytes int
}

// deadBounds lists the values of the label `bound`, in the order of the reply of
// addDeadScript.
func deadBounds() []string { return []string{"count", "bytes", "age"} }

// luaLetters defines size, what an entry of a stream of dead letters counts for: its
// last field, which is the frame of the delivery or, as older versions wrote it, its
// event's body; and 256 bytes.
const luaLetters = `
local function size(entry) return #entry[2][#entry[2]] + 256 end
`

// luaTrimLetters sets dropped: it drops the oldest entries of `stream`, whose `index`
// says where each delivery is, while there are more than ARGV[1], of more bytes than
// ARGV[2], or some are older than ARGV[3] in ms. One call drops at most 1,000; what is
// left goes with the next. It needs no memory.
const luaTrimLetters = luaLetters + `
local time = redis.call('TIME')
local oldest = tonumber(time[1]) * 1000 - tonumber(ARGV[3])
local count = redis.call('XLEN', stream)
local bytes = tonumber(redis.call('HGET', index, ':bytes') or 0)
local dropped, left = {0, 0, 0}, count
for _ = 1, 1000 do
	local entry = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
	if not entry then break end
	local bound
	if left > tonumber(ARGV[1]) then bound = 1
	elseif bytes > tonumber(ARGV[2]) then bound = 2
	elseif tonumber(string.match(entry[1], '^%d+')) < oldest then bound = 3
	else break end
	redis.call('XDEL', stream, entry[1])
	redis.call('HDEL', index, entry[2][2])
	left = left - 1
	bytes = bytes - size(entry)
	dropped[bound] = dropped[bound] + 1
end
if left < count then redis.call('HSET', index, ':bytes', string.format('%.0f', bytes)) end
`

// addDeadScript adds dead letters to the stream of an endpoint, each delivery
// once, and drops the oldest while the stream is above a bound, see luaTrimLetters.
// The fields before the frame repeat some of it, so that dead letters can be listed
// without it.
//
// KEYS: deadKey, deadIndexKey. ARGV: most entries, most bytes, greatest age in
// ms, then for each dead letter the values of the fields below.
// Reply: how many were dropped because of count, bytes, age.
var addDeadScript = redis.NewScript(`
local stream, index = KEYS[1], KEYS[2]
for i = 4, #ARGV, 9 do
	if redis.call('HEXISTS', index, ARGV[i]) == 0 then
		local id = redis.call('XADD', stream, '*', 'delivery', ARGV[i], 'event', ARGV[i+1], 'type', ARGV[i+2],
			'accepted', ARGV[i+3], 'attempts', ARGV[i+4], 'reason', ARGV[i+5], 'at', ARGV[i+6],
			'size', ARGV[i+7], 'd', ARGV[i+8])
		redis.call('HSET', index, ARGV[i], id)
		redis.call('HINCRBY', index, ':bytes', #ARGV[i+8] + 256)
	end
end
` + luaTrimLetters + `
local lifetime = string.format('%.0f', tonumber(ARGV[3]) + 86400000)
redis.call('PEXPIRE', stream, lifetime)
redis.call('PEXPIRE', index, lifetime)
return dropped
`)

// AddDeadLetters keeps deliveries that gave up. A delivery that is among its
// endpoint's dead letters already is not added again, so the call may be
// repeated. Beyond the bounds of Options an endpoint's oldest dead letters are
// dropped, which sealpost_dead_letters_trimmed_total counts; they also end
// together, uncounted, when none was added for DeadLetterRetention and a day.
func (s *Store) AddDeadLetters(ctx context.Context, letters []core.DeadLetter) error {
	defer s.metrics.took(opAddDeadLetters, time.Now())
	for len(letters) > 0 {
		n, size := 0, 0
		for n < len(letters) && n < maxDeadChunk && (n == 0 || size+len(letters[n].Delivery.Event.Body) <= maxDeadChunkBytes) {
			size += len(letters[n].Delivery.Event.Body)
			n++
		}
		if err := s.addDeadLetters(ctx, letters[:n]); err != nil {
			return s.fail(opAddDeadLetters, err)
		}
		letters = letters[n:]
	}
	return nil
}

func (s *Store) addDeadLetters(ctx context.Context, letters []core.DeadLetter) error {
	e := s.encoders.Get().(*frame.Encoder)
	defer func() {
		if e.Retainable() {
			s.encoders.Put(e)
		}
	}()
	args := make(map[string][]any)
	for i := range letters {
		l := &letters[i]
		d, event := &l.Delivery, l.Delivery.Event
		encoded, err := e.Encode([]core.Delivery{*d})
		if err != nil {
			return &core.Error{Code: core.CodeTooLarge, Detail: "the event is too large for a dead letter", Err: err}
		}
		if args[d.Endpoint] == nil {
			args[d.Endpoint] = []any{s.dead.count, s.dead.bytes, s.dead.age.Milliseconds()}
		}
		args[d.Endpoint] = append(args[d.Endpoint], d.ID, event.ID, event.Type, event.AcceptedAt.UnixMilli(),
			d.Attempts, string(l.Reason), l.At.UnixMilli(), len(event.Body), bytes.Clone(encoded))
	}
	b := s.durableBatch()
	replies := make([]*redis.Cmd, 0, len(args))
	for endpoint, args := range args {
		replies = append(replies, b.run(ctx, addDeadScript, []string{deadKey(endpoint), deadIndexKey(endpoint)}, args...))
	}
	err := b.exec(ctx)
	for _, reply := range replies {
		s.countDropped(reply)
	}
	return err
}

func (s *Store) countDropped(reply *redis.Cmd) {
	dropped, err := reply.Int64Slice()
	if err != nil {
		return // of this endpoint nothing is known; exec has the error
	}
	for i, bound := range deadBounds() {
		if i < len(dropped) {
			s.metrics.trimmed.WithLabelValues(bound).Add(float64(dropped[i]))
		}
	}
}
