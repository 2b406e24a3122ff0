package redisstore

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

const (
	// maxRows is how many attempts of an endpoint are kept, and again how many
	// failed ones.
	maxRows = 100
	// usualRow is how long the row of an attempt is that a receiver answered, in bytes.
	usualRow = 160
	// logLifetime is how long an endpoint's log outlives its last attempt.
	logLifetime = 90 * 24 * time.Hour
)

// missingRowsScript adds those rows to a log that are not in it. A row's name is
// its delivery, number and status: the row that ends a delivery without another
// attempt bears the number of the attempt before.
//
// A Redis that is full lets it run, because it trims before it adds; see
// claimScript. What leaves a backlog makes room, and would otherwise not come to
// leave it. A log is small and does not grow beyond its rows.
//
// KEYS: attemptsKey or failuresKey. ARGV: most rows, lifetime in ms, rows
// (oldest first). Reply: the number of rows added.
var missingRowsScript = redis.NewScript(`
local function name(row) return string.match(row, '^[^|]*|[^|]*|[^|]*|[^|]*|') or row end
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[1]) - 1)
local known = {}
for _, row in ipairs(redis.call('LRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)) do known[name(row)] = true end
local added = 0
for i = 3, #ARGV do
	if not known[name(ARGV[i])] then
		known[name(ARGV[i])] = true
		redis.call('LPUSH', KEYS[1], ARGV[i])
		added = added + 1
	end
end
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[1]) - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return added
`)

// Record writes attempts to their endpoints' logs, which keep the newest 100
// and the newest 100 failures, and then notes the deliveries that are settled, or
// removes them from their backlog: one round trip, two in a Cluster. The attempts of one endpoint have to be in
// order, oldest first. What r.Kept names is kept for Options.PayloadRetention, beforehand;
// nothing waits for what a full Redis refuses of it.
//
// After an error some of it may have been written. The caller calls again, with
// r.Repeated set, so that no row is written twice; the mark is the same however
// often it is set, and what has left a backlog does not count again. A Cluster's client repeats by itself after a lost reply, so
// there every write is taken for a repeated one.
func (s *Store) Record(ctx context.Context, r core.Record) error {
	defer s.metrics.took(opRecordAttempts, time.Now())
	b := s.batch()
	kept, err := s.keep(ctx, b, r.Kept)
	if err != nil {
		return s.fail(opRecordAttempts, err)
	}
	for _, l := range logsOf(r.Attempts) {
		l.write(ctx, b, r.Repeated || !s.ordered)
	}
	if !s.ordered {
		// Only what is in the log may be settled, and a Cluster client would write
		// both at the same time.
		if err := b.exec(ctx); err != nil {
			return s.fail(opRecordAttempts, err)
		}
		b = s.batch()
	}
	ends := writeMarks(ctx, b, r.Marks)
	writeDrained(ctx, b, &r.Drained)
	if b.Len() > 0 {
		err = b.exec(ctx)
	}
	s.countKept(kept)
	if err == nil {
		err = s.endAgain(ctx, ends)
	}
	return s.fail(opRecordAttempts, err)
}

// OneNode reports whether all that Record writes lies on one node: not in a Cluster.
func (s *Store) OneNode() bool { return s.ordered }

// endpointLog collects what a Record adds to the log of one endpoint.
type endpointLog struct {
	endpoint string
	rows     []any // oldest first
	failures []any
}

// logsOf groups attempts by endpoint and encodes them.
func logsOf(attempts []core.Attempt) []*endpointLog {
	var logs []*endpointLog
	var last *endpointLog // attempts of an endpoint mostly come together
	index := make(map[string]*endpointLog)
	buf := make([]byte, 0, len(attempts)*usualRow)
	for i := range attempts {
		a := &attempts[i]
		if last == nil || last.endpoint != a.Endpoint {
			last = index[a.Endpoint]
		}
		if last == nil {
			last = &endpointLog{endpoint: a.Endpoint}
			index[a.Endpoint] = last
			logs = append(logs, last)
		}
		start := len(buf)
		buf = appendRow(buf, a)
		var row any = buf[start:len(buf):len(buf)]
		last.rows = append(last.rows, row)
		if a.Status != core.StatusDelivered {
			last.failures = append(last.failures, row)
		}
	}
	return logs
}

func (l *endpointLog) write(ctx context.Context, b *batch, repeated bool) {
	writeRows(ctx, b, attemptsKey(l.endpoint), l.rows, repeated)
	if len(l.failures) > 0 {
		writeRows(ctx, b, failuresKey(l.endpoint), l.failures, repeated)
	}
}

func writeRows(ctx context.Context, b *batch, key string, rows []any, repeated bool) {
	rows = rows[max(0, len(rows)-maxRows):] // older ones would be trimmed at once
	if repeated {
		args := append([]any{maxRows, logLifetime.Milliseconds()}, rows...)
		// With its source, so that it need not be sent again after the mark.
		missingRowsScript.Eval(ctx, b, []string{key}, args...)
		return
	}
	b.LPush(ctx, key, rows...)
	b.LTrim(ctx, key, 0, maxRows-1)
	b.PExpire(ctx, key, logLifetime)
}

// Attempts returns an endpoint's log, newest first: its newest 100 attempts, or
// with failures those of its newest 100 failed attempts.
func (s *Store) Attempts(ctx context.Context, endpoint string, failures bool) ([]core.Attempt, error) {
	defer s.metrics.took(opReadAttempts, time.Now())
	key := attemptsKey(endpoint)
	if failures {
		key = failuresKey(endpoint)
	}
	rows, err := s.client.LRange(ctx, key, 0, maxRows-1).Result()
	if err != nil {
		return nil, s.fail(opReadAttempts, err)
	}
	attempts := make([]core.Attempt, 0, len(rows))
	for _, row := range rows {
		if a := s.readRow(endpoint, row); a != nil {
			attempts = append(attempts, *a)
		}
	}
	return attempts, nil
}

// LastAttempts returns the newest attempt of each endpoint, parallel to
// endpoints and in one round trip; nil stands for none.
func (s *Store) LastAttempts(ctx context.Context, endpoints []string) ([]*core.Attempt, error) {
	if len(endpoints) == 0 {
		return nil, nil
	}
	defer s.metrics.took(opReadAttempts, time.Now())
	pipe := s.client.Pipeline()
	replies := make([]*redis.StringCmd, len(endpoints))
	for i, endpoint := range endpoints {
		replies[i] = pipe.LIndex(ctx, attemptsKey(endpoint), 0)
	}
	_, _ = pipe.Exec(ctx) // its error is one of the replies'
	attempts := make([]*core.Attempt, len(endpoints))
	for i, reply := range replies {
		row, err := reply.Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, s.fail(opReadAttempts, err)
		}
		attempts[i] = s.readRow(endpoints[i], row)
	}
	return attempts, nil
}

// readRow reads a row. One that another version wrote is logged and nil: it
// must not hide the rest of the log.
func (s *Store) readRow(endpoint, row string) *core.Attempt {
	a, err := parseRow(endpoint, row)
	if err != nil {
		s.log.Warn("unreadable row in the log of an endpoint", "endpoint", endpoint, "error", err)
		return nil
	}
	return &a
}
