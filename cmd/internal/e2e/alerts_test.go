package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// unitTestedAlerts are those whose condition takes too long to bring about: ten
// thousand dead letters, a minute of runs without a bundle, a wrong clock.
var unitTestedAlerts = []string{"SealpostDeadLettersDropped", "SealpostBundlesLost", "SealpostClockSkew"}

// alarms is a system whose alerts are watched.
type alarms struct {
	*system
	prometheus *prometheus
	redis      *redis.Client
	seen       map[string]bool
}

// expect waits until all of the named alerts fire at the same time.
func (a *alarms) expect(names ...string) {
	a.t.Helper()
	var firing []string
	a.eventually(strings.Join(names, " and "), func() bool {
		firing = a.prometheus.firing()
		for _, name := range names {
			if !slices.Contains(firing, name) {
				return false
			}
		}
		return true
	})
	for _, name := range names {
		a.seen[name] = true
	}
}

// over waits until none of the named alerts fires any more.
func (a *alarms) over(names ...string) {
	a.t.Helper()
	a.eventually("the end of "+strings.Join(names, " and "), func() bool {
		firing := a.prometheus.firing()
		return !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(firing, name) })
	})
}

// TestAlerts makes the condition of each alert come true on a real system, where
// that is quick, and has a real Prometheus evaluate the rules as they ship, only
// without the time that a condition has to last.
func TestAlerts(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "1", "SEALPOST_CONCURRENCY": "4", "SEALPOST_LOG_LEVEL": "info"})
	a := &alarms{system: s, prometheus: startPrometheus(t), redis: s.redis.Client(t), seen: make(map[string]bool)}
	a.prometheus.scrape(s)

	// Well at first, with some traffic.
	acme := s.client("acme", "admin,publish")
	good := newReceiver(t, s.ca, nil)
	acme.subscribe(good.url(), "call.qualified")
	acme.publishBatch(5, "call.qualified")
	s.awaitIdle()
	s.eventually("the deliveries are scraped", func() bool {
		return number(a.prometheus.query(`sum(sealpost_sender_deliveries_total{status="delivered"})`)) == 5
	})
	if firing := a.prometheus.firing(); len(firing) > 0 {
		t.Fatalf("all is well, and yet %v fire", firing)
	}

	a.receiversFail(acme)
	a.backlogsAreLarge()
	a.receiversAreSlow(acme)
	a.masterKeyIsWrong(acme)
	a.senderIsGone(acme)
	a.redisIsFull(acme)
	a.redisIsAway(acme)
	s.gateway.kill()
	a.expect("SealpostGatewayMissing")

	var all []string
	for _, text := range rules(t) {
		for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
	}
	tested := append(slices.Collect(maps.Keys(a.seen)), unitTestedAlerts...)
	slices.Sort(all)
	slices.Sort(tested)
	if !slices.Equal(all, tested) {
		t.Errorf("the alerts are\n%v, and those that were tested\n%v", all, tested)
	}
}

// receiversFail has more endpoints fail, at the same time, than single owners' doing.
func (a *alarms) receiversFail(c *client) {
	a.t.Helper()
	bad := newReceiver(a.t, a.ca, answers(http.StatusInternalServerError))
	const endpoints = 21
	for range endpoints {
		c.subscribe(bad.url(), "lead.created")
	}
	for range 20 {
		c.publish(endpoints, "lead.created", `1`)
	}
	a.expect("SealpostDeadLetters", "SealpostDeliverySuccessBurnFast", "SealpostDeliverySuccessBurnSlow", "SealpostEndpointsFailing")
}

// backlogsAreLarge has a million more deliveries counted than wait.
func (a *alarms) backlogsAreLarge() {
	a.t.Helper()
	ctx := a.t.Context()
	const totals, many = "sp:{drain-00}:totals", 1_000_001
	a.must(a.redis.HIncrBy(ctx, totals, "deliveries", many).Err())
	a.expect("SealpostBacklogsLarge")
	a.must(a.redis.HIncrBy(ctx, totals, "deliveries", -many).Err())
	a.over("SealpostBacklogsLarge")
}

// receiversAreSlow fills all four slots of the sender, and the sixteen places to
// which attempts go that take long.
func (a *alarms) receiversAreSlow(c *client) {
	a.t.Helper()
	hold := newGate()
	r := newReceiver(a.t, a.ca, func(int, *received, http.ResponseWriter) { hold.wait() })
	a.t.Cleanup(hold.release)
	const endpoints = 24
	for range endpoints {
		e := c.subscribe(r.url(), "review.received")
		defer c.patch(e.ID, `{"enabled":false,"on_disable":"drop"}`)
	}
	for range 2 {
		c.publish(endpoints, "review.received", `1`)
	}
	a.expect("SealpostSenderSaturated")
	hold.release()
	a.over("SealpostSenderSaturated")
}

func (a *alarms) masterKeyIsWrong(c *client) {
	a.t.Helper()
	a.sender.stop()
	right := a.env["SEALPOST_MASTER_KEYS"]
	a.env["SEALPOST_MASTER_KEYS"] = newMasterKey()
	a.startSender()
	a.prometheus.scrape(a.system)
	c.publish(1, "call.qualified", `1`)
	a.expect("SealpostMasterKeyMismatch")
	a.env["SEALPOST_MASTER_KEYS"] = right
}

// senderIsGone stops the sender and lets tasks get into every state that only a
// sender gets them out of.
func (a *alarms) senderIsGone(c *client) {
	a.t.Helper()
	ctx := a.t.Context()
	a.sender.stop()
	a.expect("SealpostSenderMissing")
	// Small events, which ride in their tasks, and a bundle with a blob, in whatever
	// queues they go to; all seem to have been waiting for an hour.
	for range 30 {
		c.publish(1, "call.qualified", `1`)
	}
	c.publishBatch(30, "call.qualified")
	tasks, err := a.redis.Keys(ctx, "asynq:{deliver-*}:t:*").Result()
	if err != nil || len(tasks) < 2 {
		a.t.Fatalf("tasks: %v, %v", tasks, err)
	}
	for _, task := range tasks {
		a.must(a.redis.HSet(ctx, task, "pending_since", time.Now().Add(-time.Hour).UnixNano()).Err())
	}
	a.expect("SealpostOldestPending")
	// What waits for the endpoints that fail seems to have been due for an hour.
	const waiting = "sp:{drain-00}:waiting"
	backlogs, err := a.redis.ZRange(ctx, waiting, 0, -1).Result()
	if err != nil || len(backlogs) == 0 {
		a.t.Fatalf("backlogs: %v, %v", backlogs, err)
	}
	for _, member := range backlogs {
		a.must(a.redis.ZAdd(ctx, waiting, redis.Z{Score: float64(time.Now().Add(-time.Hour).UnixMilli()), Member: member}).Err())
	}
	a.expect("SealpostBacklogsOverdue")
	a.must(a.redis.ZAdd(ctx, "asynq:{deliver-00}:lease", redis.Z{Score: float64(time.Now().Add(-time.Hour).Unix()), Member: "made-up"}).Err())
	a.expect("SealpostTasksStuck")
	a.must(a.redis.ZRem(ctx, "asynq:{deliver-00}:lease", "made-up").Err())
	a.must(a.redis.ZAdd(ctx, "asynq:{deliver-00}:archived", redis.Z{Score: 1, Member: "made-up"}).Err())
	a.expect("SealpostTasksArchived")
	a.must(a.redis.ZRem(ctx, "asynq:{deliver-00}:archived", "made-up").Err())
	a.over("SealpostTasksStuck", "SealpostTasksArchived")

	blobs, err := a.redis.Keys(ctx, "sp:{deliver-*}:bundle:*").Result()
	if err != nil {
		a.t.Fatal(err)
	}
	damaged := false
	for _, blob := range blobs {
		if !strings.HasSuffix(blob, ":done") {
			a.must(a.redis.Set(ctx, blob, "no bundle", time.Hour).Err())
			damaged = true
		}
	}
	if !damaged {
		a.t.Fatalf("no blob among %v", blobs)
	}
	a.startSender()
	a.prometheus.scrape(a.system)
	a.over("SealpostSenderMissing", "SealpostBacklogsOverdue")
	a.expect("SealpostBundlesUnreadable", "SealpostPromptnessBurnFast", "SealpostPromptnessBurnSlow")
}

func (a *alarms) redisIsFull(c *client) {
	a.t.Helper()
	ctx := a.t.Context()
	// So little is used that buffers come and go by a good part of it: the limit goes
	// with them until it has been noticed.
	a.eventuallyWithin(time.Minute, "an alert of Redis's memory fires", func() bool {
		used, err := a.redis.Info(ctx, "memory").Result()
		a.must(err)
		var bytes int64
		_, err = fmt.Sscanf(used[strings.Index(used, "used_memory:"):], "used_memory:%d", &bytes)
		a.must(err)
		a.must(a.redis.ConfigSet(ctx, "maxmemory", fmt.Sprint(bytes*10/9)).Err())
		return slices.Contains(a.prometheus.firing(), "SealpostRedisFull")
	})
	a.expect("SealpostRedisMemory", "SealpostRedisFull")
	a.refused(c, 20)
	a.expect("SealpostAcceptErrorsBurnFast", "SealpostAcceptErrorsBurnSlow")
	a.must(a.redis.ConfigSet(ctx, "maxmemory", "0").Err())
	a.over("SealpostRedisMemory", "SealpostRedisFull")
}

func (a *alarms) redisIsAway(c *client) {
	a.t.Helper()
	a.eventually("events are accepted again", func() bool {
		r, err := c.try("POST", "/api/v1/events", `{"type":"call.qualified","data":1}`)
		return err == nil && r.status == http.StatusAccepted
	})
	a.system.redis.Pause()
	a.t.Cleanup(a.system.redis.Resume)
	a.refused(c, 60)
	a.expect("SealpostRedisErrors", "SealpostAcceptLatencyBurnFast", "SealpostAcceptLatencyBurnSlow")
	a.system.redis.Resume()
}

// refused publishes events, n at once, until so many were answered 503: a gateway
// notices within a second that Redis is full.
func (a *alarms) refused(c *client, n int) {
	a.t.Helper()
	var unavailable atomic.Int64
	a.eventually(fmt.Sprintf("%d events are refused", n), func() bool {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				r, err := c.try("POST", "/api/v1/events", `{"type":"call.qualified","data":1}`)
				if err == nil && r.status == http.StatusServiceUnavailable {
					unavailable.Add(1)
				}
			})
		}
		wg.Wait()
		return unavailable.Load() >= int64(n)
	})
}

func (a *alarms) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}
