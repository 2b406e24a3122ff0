package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

// openMarkLifetime is the least time that the bitmap of a bundle with unsettled
// deliveries is kept. The bundle itself waits at most as long, so the bitmap is
// there whenever the bundle runs again.
const openMarkLifetime = 30 * 24 * time.Hour

// minMarkLifetime keeps a Mark without a TTL from staying for ever.
const minMarkLifetime = time.Minute

// settleSomeScript notes deliveries of a bundle as settled.
//
// KEYS: Mark.DoneKey. ARGV: lifetime in ms, indexes.
var settleSomeScript = redis.NewScript(`
for i = 2, #ARGV do redis.call('SETBIT', KEYS[1], ARGV[i], 1) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
`)

// settleAllScript notes a whole bundle as settled and drops its blob. It is one
// script so that the blob stays when Redis refuses the bitmap: a bundle with
// neither would look lost.
//
// KEYS: Mark.DoneKey, Mark.BlobKey. ARGV: bitmap, lifetime in ms.
var settleAllScript = redis.NewScript(`
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('UNLINK', KEYS[2])
return 1
`)

// writeMark adds m to the batch, and with the last mark what ends the task, whose reply
// it returns: 0 if it has done nothing.
func writeMark(ctx context.Context, b *batch, m *core.Mark) (end *redis.Cmd) {
	lifetime := max(m.TTL, minMarkLifetime)
	switch {
	case m.DoneKey == "":
		return nil
	case m.All && m.BlobKey == "":
		b.Set(ctx, m.DoneKey, settledBitmap(m.Size), lifetime)
	case m.All:
		b.run(ctx, settleAllScript, []string{m.DoneKey, m.BlobKey}, settledBitmap(m.Size), lifetime.Milliseconds())
	case len(m.Indexes) > 0:
		args := make([]any, 0, 1+len(m.Indexes))
		args = append(args, max(2*lifetime, openMarkLifetime).Milliseconds())
		for _, index := range m.Indexes {
			args = append(args, index)
		}
		b.run(ctx, settleSomeScript, []string{m.DoneKey}, args...)
	}
	if m.All && m.End.Source != "" {
		end = b.run(ctx, redis.NewScript(m.End.Source), m.End.Keys, m.End.Args...)
	}
	return end
}

// endAgain runs what ends the task once more if it has done nothing: it may have run
// before the mark, when Redis knew its script and not that of the mark.
func (s *Store) endAgain(ctx context.Context, m *core.Mark, end *redis.Cmd) error {
	if end == nil {
		return nil
	}
	if n, err := end.Int(); err != nil || n != 0 {
		return err
	}
	b := s.batch()
	b.run(ctx, redis.NewScript(m.End.Source), m.End.Keys, m.End.Args...)
	return b.exec(ctx)
}

// settledBitmap returns size bits that are all 1, the first in the highest bit
// of the first byte as Redis counts them, filled up with 0.
func settledBitmap(size int) []byte {
	bitmap := make([]byte, (size+7)/8)
	for i := range bitmap {
		bitmap[i] = 0xff
	}
	if rest := size % 8; rest != 0 {
		bitmap[len(bitmap)-1] = 0xff << (8 - rest)
	}
	return bitmap
}
