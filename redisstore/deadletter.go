package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
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

// addDeadScript adds dead letters to the stream of an endpoint, each delivery
// once, and drops the oldest while the stream is above a bound. One call drops
// at most 1,000; what is left goes with the next. The entry of a dead letter
// counts as its body and 256 bytes.
//
// KEYS: deadKey, deadIndexKey. ARGV: most entries, most bytes, greatest age in
// ms, then for each dead letter the values of the fields below.
// Reply: how many were dropped because of count, bytes, age.
var addDeadScript = redis.NewScript(`
local stream, index = KEYS[1], KEYS[2]
local function size(body) return #body + 256 end
for i = 4, #ARGV, 9 do
	if redis.call('HEXISTS', index, ARGV[i]) == 0 then
		local id = redis.call('XADD', stream, '*', 'delivery', ARGV[i], 'organization', ARGV[i+1],
			'event', ARGV[i+2], 'type', ARGV[i+3], 'accepted', ARGV[i+4], 'attempts', ARGV[i+5],
			'reason', ARGV[i+6], 'at', ARGV[i+7], 'body', ARGV[i+8])
		redis.call('HSET', index, ARGV[i], id)
		redis.call('HINCRBY', index, ':bytes', size(ARGV[i+8]))
	end
end
local time = redis.call('TIME')
local oldest = tonumber(time[1]) * 1000 - tonumber(ARGV[3])
local count = redis.call('XLEN', stream)
local bytes = tonumber(redis.call('HGET', index, ':bytes') or 0)
local dropped = {0, 0, 0}
for _ = 1, 1000 do
	local entry = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
	if not entry then break end
	local bound
	if count > tonumber(ARGV[1]) then bound = 1
	elseif bytes > tonumber(ARGV[2]) then bound = 2
	elseif tonumber(string.match(entry[1], '^%d+')) < oldest then bound = 3
	else break end
	redis.call('XDEL', stream, entry[1])
	redis.call('HDEL', index, entry[2][2])
	count = count - 1
	bytes = bytes - size(entry[2][18])
	dropped[bound] = dropped[bound] + 1
end
redis.call('HSET', index, ':bytes', string.format('%.0f', bytes))
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
	args := make(map[string][]any)
	for i := range letters {
		l := &letters[i]
		d, e := &l.Delivery, l.Delivery.Event
		if args[d.Endpoint] == nil {
			args[d.Endpoint] = []any{s.dead.count, s.dead.bytes, s.dead.age.Milliseconds()}
		}
		args[d.Endpoint] = append(args[d.Endpoint], d.ID, d.Organization, e.ID, e.Type,
			e.AcceptedAt.UnixMilli(), d.Attempts, string(l.Reason), l.At.UnixMilli(), e.Body)
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

// DeadLetters returns up to limit of an endpoint's dead letters, newest first.
func (s *Store) DeadLetters(ctx context.Context, endpoint string, limit int) ([]core.DeadLetter, error) {
	defer s.metrics.took(opReadDeadLetters, time.Now())
	if limit < 1 {
		return nil, nil
	}
	entries, err := s.client.XRevRangeN(ctx, deadKey(endpoint), "+", "-", int64(limit)).Result()
	if err != nil {
		return nil, s.fail(opReadDeadLetters, err)
	}
	letters := make([]core.DeadLetter, 0, len(entries))
	for _, entry := range entries {
		l, err := parseDeadLetter(endpoint, entry.Values)
		if err != nil {
			return nil, fmt.Errorf("decode dead letter %s of endpoint %s: %w", entry.ID, endpoint, err)
		}
		letters = append(letters, l)
	}
	return letters, nil
}

func parseDeadLetter(endpoint string, values map[string]any) (core.DeadLetter, error) {
	text := func(field string) string {
		s, _ := values[field].(string)
		return s
	}
	var p numbers
	l := core.DeadLetter{
		Delivery: core.Delivery{
			ID: text("delivery"), Organization: text("organization"), Endpoint: endpoint,
			Event:    &core.Event{ID: text("event"), Type: text("type"), Body: []byte(text("body")), AcceptedAt: p.millis(text("accepted"))},
			Attempts: int(p.integer(text("attempts"))),
		},
		Reason: core.Reason(text("reason")),
		At:     p.millis(text("at")),
	}
	return l, p.err
}
