package redisstore

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

const (
	// maxKeepBytes bounds the frames that one pipeline carries. A single one may be
	// larger.
	maxKeepBytes = 4 << 20

	// maxKeepRecord bounds the frames of one Record, so that settling is not held up by
	// what is merely kept. A single one may be larger.
	maxKeepRecord = 32 << 20
)

// Bounds that end what is kept before its time; see keptBounds.
const (
	boundCount = "count"
	boundBytes = "bytes"
	boundFull  = "full"
)

// keptBounds lists the values of the label `bound`, the first three in the order of the
// reply of keepScript. Age is none of them: that is as it should be.
func keptBounds() []string { return []string{boundCount, boundBytes, boundFull} }

// keepScript keeps delivered deliveries, each once, and drops the oldest as
// addDeadScript does. A Redis that is full refuses to keep more, which is no error, and
// lets it drop.
//
// KEYS: keptKey, keptIndexKey. ARGV: most entries, most bytes, greatest age in ms, then
// id and frame of each delivery. Reply: how many were dropped because of count, bytes,
// and refused.
var keepScript = redis.NewScript(`
local stream, index = KEYS[1], KEYS[2]
local refused = 0
for i = 4, #ARGV, 2 do
	if redis.call('HEXISTS', index, ARGV[i]) == 0 then
		local id = redis.pcall('XADD', stream, '*', 'delivery', ARGV[i], 'd', ARGV[i+1])
		if type(id) == 'table' then
			refused = refused + 1
		else
			redis.call('HSET', index, ARGV[i], id)
			redis.call('HINCRBY', index, ':bytes', #ARGV[i+1] + 256)
		end
	end
end
` + luaTrimLetters + `
redis.call('PEXPIRE', stream, ARGV[3])
redis.call('PEXPIRE', index, ARGV[3])
return {dropped[1], dropped[2], refused}
`)

// keep adds to b what keeps deliveries for Options.PayloadRetention, after it has sent
// what would make b too large. The replies are for countKept when b was sent.
func (s *Store) keep(ctx context.Context, b *batch, ds []core.Delivery) (replies []*redis.Cmd, err error) {
	if s.kept.age == 0 || len(ds) == 0 {
		return nil, nil
	}
	if s.Accepting() != nil {
		// What memory is left belongs to what is not delivered yet.
		s.metrics.unkept.WithLabelValues(boundFull).Add(float64(len(ds)))
		return nil, nil
	}
	e := s.encoders.Get().(*frame.Encoder)
	defer func() {
		if e.Retainable() {
			s.encoders.Put(e)
		}
	}()
	for total := 0; ; {
		args, n, size := s.keepArgs(e, ds)
		ds, total = ds[n:], total+size
		if total >= maxKeepRecord {
			s.metrics.unkept.WithLabelValues(boundBytes).Add(float64(len(ds)))
			ds = nil
		}
		to := b
		if len(ds) > 0 {
			to = s.batch()
		}
		for endpoint, args := range args {
			// With its source, so that it need not be sent again after the mark.
			replies = append(replies, keepScript.Eval(ctx, to, []string{keptKey(endpoint), keptIndexKey(endpoint)}, args...))
		}
		if len(ds) == 0 {
			return replies, nil
		}
		if err := to.exec(ctx); err != nil {
			return nil, err
		}
	}
}

// keepArgs returns the arguments of keepScript, by endpoint, for the first n of some
// deliveries, and the bytes of their frames.
func (s *Store) keepArgs(e *frame.Encoder, ds []core.Delivery) (args map[string][]any, n, size int) {
	args = make(map[string][]any)
	for ; n < len(ds) && size < maxKeepBytes; n++ {
		d := &ds[n]
		encoded, err := e.Encode(ds[n : n+1])
		if err != nil { // too large for an entry
			s.metrics.unkept.WithLabelValues(boundBytes).Inc()
			continue
		}
		if args[d.Endpoint] == nil {
			args[d.Endpoint] = []any{s.kept.count, s.kept.bytes, s.kept.age.Milliseconds()}
		}
		args[d.Endpoint] = append(args[d.Endpoint], d.ID, bytes.Clone(encoded))
		size += len(encoded)
	}
	return args, n, size
}

// countKept counts what was not kept. Where there is no reply the caller tries again.
func (s *Store) countKept(replies []*redis.Cmd) {
	for _, reply := range replies {
		ended, err := reply.Int64Slice()
		if err != nil {
			continue
		}
		for i, bound := range keptBounds() {
			if i < len(ended) {
				s.metrics.unkept.WithLabelValues(bound).Add(float64(ended[i]))
			}
		}
	}
}

// findKeptScript reads what is kept of a delivery.
//
// KEYS: keptKey, keptIndexKey. ARGV: delivery, greatest age in ms. Reply: 1 if it is
// older, else 0; the entries as of XRANGE, none if it is older or not there.
var findKeptScript = redis.NewScript(luaNow + `
local id = redis.call('HGET', KEYS[2], ARGV[1])
if not id then return {0, {}} end
if tonumber(string.match(id, '^%d+')) <= now - tonumber(ARGV[2]) then return {1, {}} end
return {0, redis.call('XRANGE', KEYS[1], id, id)}
`)

// FindKept returns a delivered delivery that is kept for replays, nil if there is none:
// as a dead letter that has no reason. One that was kept for longer than
// Options.PayloadRetention is a core.CodePayloadExpired error; without a retention there
// is none. One that cannot be read has no event.
func (s *Store) FindKept(ctx context.Context, ref core.EndpointRef, delivery string) (*core.KeptLetter, error) {
	if s.kept.age == 0 {
		return nil, nil
	}
	defer s.metrics.took(opReadKept, time.Now())
	reply, err := findKeptScript.Run(ctx, s.client, []string{keptKey(ref.ID), keptIndexKey(ref.ID)}, delivery, s.kept.age.Milliseconds()).Slice()
	if err == nil && len(reply) != 2 {
		err = fmt.Errorf("%d values in the reply about a kept delivery", len(reply))
	}
	if err != nil {
		return nil, s.fail(opReadKept, err)
	}
	if reply[0] == int64(1) {
		return nil, &core.Error{Code: core.CodePayloadExpired, Detail: fmt.Sprintf("the delivery succeeded more than %v ago, and its payload is no longer kept", s.kept.age)}
	}
	found, err := s.lettersOf(ref, reply[1])
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}
