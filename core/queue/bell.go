package queue

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// maxRings bounds the rings that a bell keeps. So many pollers are woken at the
// same time at most; each of them goes on as long as it finds tasks.
const maxRings = 16

// A bell is a list: who stores a task pushes a ring, and a poller that found its
// queue empty blocks until it pops one. Each ring wakes one poller, of whichever
// process, and one that comes while nobody waits is kept. A publication would
// wake the pollers of all processes for every task, and be lost on who does not
// listen at that moment.

// ring adds rings to a pipeline, behind the task that they are for: both are in
// the same slot.
func ring(ctx context.Context, pipe redis.Pipeliner, bell string, rings int) {
	values := make([]any, min(rings, maxRings))
	for i := range values {
		values[i] = ""
	}
	pipe.LPush(ctx, bell, values...)
	pipe.LTrim(ctx, bell, 0, maxRings-1)
}
