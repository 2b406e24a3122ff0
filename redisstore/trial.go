package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// testInterval is how often an organization may test its endpoints.
const testInterval = time.Second

// allowTestScript allows a test unless one was allowed a moment ago.
//
// KEYS: testKey. ARGV: interval in ms. Reply: ms until the next one; 0: allowed.
var allowTestScript = redis.NewScript(`
if redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) then return 0 end
return math.max(1, redis.call('PTTL', KEYS[1]))
`)

// AllowTest allows an organization one test of an endpoint a second, over all
// gateways. wait is the time until the next one, 0 if this one is allowed.
func (s *Store) AllowTest(ctx context.Context, organization string) (wait time.Duration, err error) {
	defer s.metrics.took(opAllowTest, time.Now())
	ms, err := allowTestScript.Run(ctx, s.client, []string{testKey(organization)}, testInterval.Milliseconds()).Int64()
	return time.Duration(ms) * time.Millisecond, s.fail(opAllowTest, err)
}
