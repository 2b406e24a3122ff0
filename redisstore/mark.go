package redisstore

import (
	"context"
	"slices"
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

// settleSomeScript notes deliveries of a bundle as settled. It writes the whole bitmap:
// each SETBIT would be a command of its own in the append-only file.
//
// KEYS: Mark.DoneKey. ARGV: their bitmap, lifetime in ms.
var settleSomeScript = redis.NewScript(`
local function either(a, b)
	if a == 0 or a == b then return b end
	local sum, bit = 0, 128
	while bit >= 1 do
		if a >= bit or b >= bit then sum = sum + bit end
		a, b, bit = a % bit, b % bit, bit / 2
	end
	return sum
end
local settled = ARGV[1]
local before = redis.call('GET', KEYS[1])
if before then
	local both = {}
	for i = 1, math.max(#settled, #before) do
		both[i] = string.char(either(string.byte(settled, i) or 0, string.byte(before, i) or 0))
	end
	settled = table.concat(both)
end
redis.call('SET', KEYS[1], settled, 'PX', ARGV[2])
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

// end is what ends a task. Its reply is 0 if it has done nothing.
type end struct {
	script *core.Script
	reply  *redis.Cmd
}

// writeMarks adds marks to the batch, and behind the last mark of a bundle what ends
// its task.
func writeMarks(ctx context.Context, b *batch, marks []core.Mark) (ends []end) {
	for i := range marks {
		m := &marks[i]
		writeMark(ctx, b, m)
		if m.DoneKey != "" && m.All && m.End.Source != "" {
			ends = append(ends, end{&m.End, writeEnd(ctx, b, &m.End)})
		}
	}
	return ends
}

func writeEnd(ctx context.Context, b *batch, e *core.Script) *redis.Cmd {
	return b.run(ctx, redis.NewScript(e.Source), e.Keys, e.Args...)
}

// writeMark adds m to the batch.
func writeMark(ctx context.Context, b *batch, m *core.Mark) {
	lifetime := max(m.TTL, minMarkLifetime)
	switch {
	case m.DoneKey == "":
	case m.All && m.BlobKey == "":
		b.Set(ctx, m.DoneKey, settledBitmap(m.Size), lifetime)
	case m.All:
		b.run(ctx, settleAllScript, []string{m.DoneKey, m.BlobKey}, settledBitmap(m.Size), lifetime.Milliseconds())
	case len(m.Indexes) > 0:
		b.run(ctx, settleSomeScript, []string{m.DoneKey}, bitmapOf(m.Indexes), max(2*lifetime, openMarkLifetime).Milliseconds())
	}
}

// endAgain runs once more what should have ended tasks and has done nothing: it may have
// run before the mark, when Redis knew its script and not that of the mark.
func (s *Store) endAgain(ctx context.Context, ends []end) error {
	b := s.batch()
	for _, e := range ends {
		n, err := e.reply.Int()
		if err != nil {
			return err
		}
		if n == 0 {
			writeEnd(ctx, b, e.script)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return b.exec(ctx)
}

// bitmapOf returns bits of which those at indexes are 1, the first in the highest bit of
// the first byte as Redis counts them.
func bitmapOf(indexes []int) []byte {
	bitmap := make([]byte, slices.Max(indexes)/8+1)
	for _, i := range indexes {
		bitmap[i/8] |= 0x80 >> (i % 8)
	}
	return bitmap
}

// settledBitmap returns size bits that are all 1, in the same order, filled up with 0.
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
