package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// An organization may have 500 logs a second looked through for events, over all
// gateways, and 5,000 at once when it has not for ten seconds. A log takes Redis about
// 0.15 ms, so that is a thirteenth of it in the long run.
const (
	trailCost  = 2 * time.Millisecond // until the next log
	trailBurst = 10 * time.Second     // how far an organization may be ahead
)

// allowTrailScript allows the reading of logs unless the organization would be too far
// ahead: a string holds until when, in ms by Redis's clock, what was read pays.
//
// KEYS: trailKey. ARGV: cost in ms, how far ahead in ms. Reply: ms to wait; 0: allowed.
var allowTrailScript = redis.NewScript(luaNow + luaText + `
local paid = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0)) + tonumber(ARGV[1])
local ahead = paid - now
if ahead > tonumber(ARGV[2]) then return ahead - tonumber(ARGV[2]) end
redis.call('SET', KEYS[1], text(paid), 'PX', text(ahead))
return 0
`)

// AllowTrail allows an organization to have the logs of that many endpoints looked
// through for an event. wait is the time until it may, 0 if this is allowed. More than
// 5,000 count as so many.
func (s *Store) AllowTrail(ctx context.Context, organization string, endpoints int) (wait time.Duration, err error) {
	defer s.metrics.took(opAllowTrail, time.Now())
	cost := min(time.Duration(max(endpoints, 1))*trailCost, trailBurst)
	ms, err := allowTrailScript.Run(ctx, s.client, []string{trailKey(organization)}, cost.Milliseconds(), trailBurst.Milliseconds()).Int64()
	return time.Duration(ms) * time.Millisecond, s.fail(opAllowTrail, err)
}
