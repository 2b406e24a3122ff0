package queue

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// errMoved says that nothing was stored, because a version had moved.
var errMoved = errors.New("the version has moved")

// unmovedLua runs asynq's script if the version is still the expected one. A task that
// an earlier try has stored stays a conflict, which means success.
//
// KEYS: asynq's, of which the first is the task; the version. ARGV: asynq's; the
// version that is expected. Reply: asynq's, or an error.
const unmovedLua = `
if redis.call('EXISTS', KEYS[1]) == 0 and redis.call('GET', KEYS[#KEYS]) ~= ARGV[#ARGV] then
	return redis.error_reply('CHANGED the version is another one')
end
`

// movedPrefix begins what unmovedLua answers when it has stored nothing.
const movedPrefix = "CHANGED"

func newUnmoved() *wrapping {
	return &wrapping{wrap: func(text string) string { return unmovedLua + text }}
}

// condition is what must hold for a task to be stored; the zero value: nothing.
type condition struct{ key, version string }

// extend returns asynq's keys and arguments with those of unmovedLua.
func (c *condition) extend(keys []string, args []any) ([]string, []any) {
	return append(slices.Clip(keys), c.key), append(slices.Clip(args), c.version)
}

// EnqueueUnmoved is Enqueue if the version of the organization's endpoints is still
// this one, and stores nothing otherwise: then, and where it cannot tell, unmoved is
// false and errs is nil. It can tell for what fits into one bundle, and not in a Redis
// Cluster. What it saves is the round trip that reads the version before.
func (p *Producer) EnqueueUnmoved(ctx context.Context, ds []core.Delivery, organization, version string) (errs []error, unmoved bool) {
	if p.o.VersionKey == nil || p.o.isCluster() || len(split(ds)) != 1 {
		return nil, false
	}
	ctx, cancel := withPatience(ctx)
	defer cancel()
	err := p.sendBundle(ctx, ds, time.Time{}, extras{only: condition{p.o.VersionKey(organization), version}})
	switch {
	case err == nil:
		return nil, true
	case errors.Is(err, errMoved):
		return nil, false
	default:
		return slices.Repeat([]error{err}, len(ds)), true
	}
}

// moved reports whether err is the answer of unmovedLua.
func moved(err error) bool { return err != nil && redis.HasErrorPrefix(err, movedPrefix) }
