package doctor

import (
	"context"

	"github.com/sealpost/sealpost/redisstore"
)

// checkDurability compares SEALPOST_DURABILITY of every process with what Redis
// is configured to do.
func checkDurability(ctx context.Context, p *patient) (Finding, error) {
	servers, err := p.readServers(ctx)
	if err != nil {
		return Finding{}, err
	}
	worst := fine("async: an event counts as stored as soon as Redis has it")
	for _, s := range p.settingsOf(ctx, "SEALPOST_DURABILITY", p.Durability) {
		for i := range servers {
			f := judgeDurability(redisstore.Durability(s.value), s.whose, &servers[i])
			if worse(f.Status, worst.Status) || worst.Status == StatusOK && s.value != "async" && s.value != "" {
				worst = f
			}
		}
	}
	return worst, nil
}

func judgeDurability(d redisstore.Durability, whose string, v *redisstore.Server) Finding {
	switch d {
	case redisstore.DurabilityFsync:
		const always = "CONFIG SET appendonly yes, appendfsync always, no-appendfsync-on-rewrite no, and in redis.conf; or give all processes SEALPOST_DURABILITY=async"
		for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"} {
			if got, told := v.Config[name]; !told {
				return bad("allow CONFIG GET, or give all processes SEALPOST_DURABILITY=async", "%s asks for fsync, and Redis does not tell its %s: nothing is accepted", whose, name)
			} else if got != want {
				return bad(always, "%s asks for fsync, and %s of Redis is %s: nothing is accepted", whose, name, got)
			}
		}
		return fine("fsync: an event counts as stored once it is on the disk of Redis")
	case redisstore.DurabilityReplica:
		switch n := redisstore.Followers(v.Info); n {
		case 0:
			return bad("start a replica, or give all processes SEALPOST_DURABILITY=async", "%s asks for replica, and no replica follows Redis: nothing is accepted", whose)
		case 1:
			return doubtful("add a second replica", "a single replica follows Redis: while it is away, nothing is accepted")
		default:
			return fine("replica: an event counts as stored once one of %d replicas has it", n)
		}
	}
	return fine("async: an event counts as stored as soon as Redis has it")
}
