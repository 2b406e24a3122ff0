package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// A condition is a line of fields separated by spaces:
//
//	rank state since until probes head-attempts head
//
// Times are Unix milliseconds, zero is 0, and the last field may be empty. The rank
// says which of two conditions is graver, so that scripts need not know the states.
const conditionFields = 7

// The ranks. What is below rankFailing ends by itself.
const (
	rankNone = iota
	rankSlow
	rankPaused
	rankFailing
	rankCatchingUp
)

func rankOf(state core.State) int {
	switch state {
	case core.StateSlow, core.StateThrottled:
		return rankSlow
	case core.StatePaused:
		return rankPaused
	case core.StateFailing:
		return rankFailing
	case core.StateCatchingUp:
		return rankCatchingUp
	default:
		return rankNone
	}
}

// encodeCondition returns the line of c, "" if it is none.
func encodeCondition(c *core.Condition) string {
	rank := rankOf(c.State)
	if rank == rankNone {
		return ""
	}
	return fmt.Sprintf("%d %s %d %d %d %d %s", rank, c.State, millisOf(c.Since), millisOf(c.Until), c.Probes, c.HeadAttempts, c.Head)
}

func millisOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func parseCondition(line string) (core.Condition, error) {
	fields := strings.SplitN(line, " ", conditionFields)
	if len(fields) != conditionFields || rankOf(core.State(fields[1])) == rankNone {
		return core.Condition{}, fmt.Errorf("a condition %.40q", line)
	}
	var p numbers
	c := core.Condition{
		State: core.State(fields[1]), Since: p.instant(fields[2]), Until: p.instant(fields[3]),
		Probes: int(p.integer(fields[4])), HeadAttempts: int(p.integer(fields[5])), Head: fields[6],
	}
	return c, p.err
}

// instant reads Unix milliseconds; 0 is the zero time.
func (p *numbers) instant(s string) time.Time {
	if s == "0" {
		return time.Time{}
	}
	return p.millis(s)
}

func encodeFailing(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return strconv.FormatInt(since.UnixMilli(), 10) + " 0"
}

func parseFailing(line string) (core.Failing, error) {
	since, warned, _ := strings.Cut(line, " ")
	var p numbers
	f := core.Failing{Since: p.millis(since), Warned: int(p.integer(warned))}
	return f, p.err
}

// readCondition reads a condition; "" is none. One that another version wrote is
// logged and none: its deliveries are sent at once, as to an endpoint that nothing
// is known of.
func (s *Store) readCondition(endpoint, line string) core.Condition {
	if line == "" {
		return core.Condition{}
	}
	c, err := parseCondition(line)
	if err != nil {
		s.log.Warn("unreadable condition of an endpoint", "endpoint", endpoint, "error", err)
		return core.Condition{}
	}
	return c
}

func (s *Store) readFailing(endpoint, line string) core.Failing {
	if line == "" {
		return core.Failing{}
	}
	f, err := parseFailing(line)
	if err != nil {
		s.log.Warn("unreadable time since which an endpoint fails", "endpoint", endpoint, "error", err)
		return core.Failing{}
	}
	return f
}

// conditionReplies are the conditions of some endpoints, on their way.
type conditionReplies struct {
	refs                []core.EndpointRef
	conditions, failing *redis.SliceCmd
}

// askConditions adds two commands to a pipeline, however many refs there are.
func askConditions(ctx context.Context, pipe redis.Pipeliner, refs []core.EndpointRef) conditionReplies {
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = ref.ID
	}
	return conditionReplies{refs: refs, conditions: pipe.HMGet(ctx, conditionsKey, ids...), failing: pipe.HMGet(ctx, failingKey, ids...)}
}

// conditionOf returns what was answered about the ref at a position.
func (s *Store) conditionOf(r *conditionReplies, position int) (core.Condition, core.Failing) {
	condition, _ := r.conditions.Val()[position].(string) // nil: none
	failing, _ := r.failing.Val()[position].(string)
	id := r.refs[position].ID
	return s.readCondition(id, condition), s.readFailing(id, failing)
}

// check returns an error unless there is an answer about every ref.
func (r *conditionReplies) check() error {
	if c, f := len(r.conditions.Val()), len(r.failing.Val()); c != len(r.refs) || f != len(r.refs) {
		return fmt.Errorf("%d conditions and %d times in the reply to a question for %d", c, f, len(r.refs))
	}
	return nil
}

// Standings returns what the API shows of endpoints besides their records, parallel
// to refs and in one round trip. It does not tell whether they exist.
func (s *Store) Standings(ctx context.Context, refs []core.EndpointRef) ([]core.Standing, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	defer s.metrics.took(opReadStandings, time.Now())
	pipe := s.client.Pipeline()
	replies := askConditions(ctx, pipe, refs)
	lengths := make([]*redis.IntCmd, len(refs))
	for i, ref := range refs {
		lengths[i] = pipe.XLen(ctx, backlogKey(ref.ID))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, s.fail(opReadStandings, err)
	}
	if err := replies.check(); err != nil {
		return nil, s.fail(opReadStandings, err)
	}
	standings := make([]core.Standing, len(refs))
	for i := range refs {
		standings[i].Condition, standings[i].Failing = s.conditionOf(&replies, i)
		standings[i].Backlog = int(lengths[i].Val())
	}
	return standings, nil
}

// NoteRecovered notes that attempts to endpoints succeeded: they do nothing but
// fail no longer. It may be called again.
func (s *Store) NoteRecovered(ctx context.Context, refs []core.EndpointRef) error {
	if len(refs) == 0 {
		return nil
	}
	defer s.metrics.took(opNoteRecovered, time.Now())
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = ref.ID
	}
	return s.fail(opNoteRecovered, s.client.HDel(ctx, failingKey, ids...).Err())
}

// raiseWarningScript notes a warning unless one as high was given.
//
// KEYS: failingKey. ARGV: endpoint id, percent. Reply: 1 noted; 0 not.
var raiseWarningScript = redis.NewScript(`
local since, warned = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) (%d+)$')
if not since or tonumber(warned) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], since .. ' ' .. ARGV[2])
return 1
`)

// RaiseWarning notes that a warning was given about an endpoint that does nothing
// but fail: core.Failing.Warned. It reports whether that was news, so that one
// sender of all gives the warning: it is not when a warning as high was given, or
// the endpoint has recovered.
func (s *Store) RaiseWarning(ctx context.Context, ref core.EndpointRef, percent int) (raised bool, err error) {
	defer s.metrics.took(opRaiseWarning, time.Now())
	raised, err = raiseWarningScript.Run(ctx, s.client, []string{failingKey}, ref.ID, percent).Bool()
	return raised, s.fail(opRaiseWarning, err)
}
