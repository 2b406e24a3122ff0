package main

import (
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// faults is the plan, in the order in which they happen.
func faults() []*fault {
	return []*fault{
		{number: 29, name: "deliberate-loss", ci: true, run: deliberateLoss,
			promise: "the books report exactly the one delivery that the receiver drops: they can be trusted"},
		{number: 29, name: "deliberate-leak", ci: true, run: deliberateLeak,
			promise: "the search for secrets, which follows each fault, finds the one that is planted in Redis there and in its file"},

		{number: 1, name: "sender-kill", ci: true, run: senderKill, plan: plan{streams: []streamPlan{{rate: 800, endpoints: 1}}},
			promise: "lost 0; duplicated at most what is in flight at each kill, and the results of the last moment, not noted yet"},
		{number: 2, name: "sender-term", ci: true, run: senderTerm,
			promise: "lost 0, duplicated 0: a sender that is asked to end finishes what it began, and notes it"},
		{number: 3, name: "gateway-kill", ci: true, once: true, run: gatewayKill,
			promise: "lost 0, duplicated 0: an event that is offered again under its key comes once, wherever its request was when the gateway was killed"},
		{number: 3, name: "gateway-kill-batches", once: true, run: gatewayKill, plan: plan{streams: []streamPlan{{rate: 20, workers: 8, batch: 600, endpoints: 1}, {rate: 4, workers: 8, batch: 300, endpoints: 1, fifo: true}}},
			promise: "the same of batches that need several bundles, or whose deliveries go to a backlog"},
		{number: 4, name: "redis-kill-always", ci: true, run: redisKill(10, 3), plan: plan{redis: lab.RedisOptions{Fsync: "always"}},
			promise: "lost 0; duplicated 0: senders hold results until Redis is back"},
		{number: 4, name: "redis-kill-everysec", run: redisKill(5, 2),
			promise: "lost and duplicated at most the traffic of 2 s at each kill: so long Redis may answer before it writes, when its disk is busy. (A process that is killed loses nothing that was written.)"},
		{number: 4, name: "redis-machine-everysec", run: redisMachine,
			promise: "a machine that dies takes the file's last second along: that much traffic is lost, or duplicated where marks are lost, 2 s at most"},
		{number: 5, name: "redis-stop-20s", once: true, run: redisStop20, then: sameGoroutines,
			promise: "lost 0, duplicated 0, also of events that a 503 left open; meanwhile 503 within 2 s (the machine may add one) with Retry-After"},
		{number: 6, name: "redis-stop-45s", run: redisStop45, then: sameGoroutines,
			promise: "lost 0; leases run out while results wait, so duplicated at most what is in flight; no goroutine is left over"},
		{number: 10, name: "redis-full", ci: true, run: redisFull, plan: plan{redis: lab.RedisOptions{MaxMemory: "32mb"}, streams: []streamPlan{{rate: 1000, endpoints: 1, payload: 4000}}},
			promise: "lost 0, duplicated 0; 503 before Redis is 85 % full, and what is in it is delivered without more memory"},
		{number: 12, name: "permanent-failures", run: permanentFailures, then: allDead, plan: plan{streams: []streamPlan{{rate: 800, endpoints: 2}},
			settings: map[string]string{"SEALPOST_RETRY_BASE": "1s", "SEALPOST_RETRY_FACTOR": "1", "SEALPOST_RETRY_CAP": "1s", "SEALPOST_RETRY_MAX_ATTEMPTS": "2", "SEALPOST_BACKLOG_RETENTION": "1m"}},
			promise: "lost 0: every delivery is a dead letter, and asynq's archive stays empty"},
		{number: 13, name: "script-flush", ci: true, run: scriptFlush,
			promise: "lost 0, duplicated 0, and no answer but 202"},
		{number: 14, name: "ghost-tasks", run: ghostTasks, then: ghostsCounted, plan: plan{streams: []streamPlan{{rate: 200, workers: 1, endpoints: 1}}},
			promise: "lost are the deliveries whose task was deleted, one each, and no other; nothing is stuck, and a metric counts them"},
		{number: 7, name: "lost-done", ci: true, run: loseReplies("sender", "}:processed:"), plan: plan{proxied: true},
			promise: "lost 0, duplicated 0: what ends a task is repeated until Redis confirms it, and the task does not run again"},
		{number: 8, name: "lost-enqueue", ci: true, run: loseReplies("gateway", "}:pending"), plan: plan{proxied: true},
			promise: "lost 0, duplicated 0: an enqueue is repeated under the same task id"},
		{number: 9, name: "lost-dequeue", run: loseReplies("sender", "}:paused"), plan: plan{proxied: true},
			promise: "lost 0, duplicated 0: a task whose dequeue got no answer is taken over once its lease is over"},
		{number: 31, name: "network-redis", ci: true, once: true, run: networkRedis, plan: plan{proxied: true},
			promise: "resets, latency, little bandwidth, and half-open connections for 5 s between Sealpost and Redis: lost 0, duplicated 0"},
		{number: 15, name: "silent-endpoints", run: silentEndpoints, plan: plan{streams: []streamPlan{{rate: 300, endpoints: 1}, {rate: 4, endpoints: 12, proxied: true}},
			settings: map[string]string{"SEALPOST_DELIVERY_TIMEOUT": "2s"}},
			promise: "silent, dripping, late and refusing endpoints: lost 0 once they answer again; duplicated at most the requests that arrived after their attempt had run out of time; the healthy endpoint receives on"},
		{number: 16, name: "hostile-responses", ci: true, run: hostileResponses, plan: plan{streams: []streamPlan{{rate: 300, endpoints: 1}, {rate: 5, endpoints: len(hostilities()), proxied: true}},
			settings: map[string]string{"SEALPOST_DELIVERY_TIMEOUT": "2s"}},
			promise: "lost 0, duplicated 0: a 2xx with 10 MB, or a gzip bomb, behind it counts, once; senders stay below 128 MiB"},
		{number: 17, name: "network-receivers", ci: true, run: networkReceivers, plan: plan{streams: []streamPlan{{rate: 400, endpoints: 4, proxied: true}}},
			promise: "keep-alive connections that end as a request is under way: lost 0; duplicated at most the requests that arrived and whose answer was lost"},
		{number: 26, name: "noisy-neighbour", run: noisyNeighbour, plan: plan{streams: []streamPlan{{rate: 80, endpoints: 1}, {rate: 800, endpoints: 1, proxied: true}},
			settings: map[string]string{"SEALPOST_DELIVERY_TIMEOUT": "2s"}},
			promise: "beside an organization that publishes ten times as much for an endpoint that is silent: lost 0, duplicated 0 in both"},
		{number: 30, name: "drain-kill", ci: true, run: drainKill,
			promise: "senders are killed while they work an outage's backlog off: lost 0; duplicated at most what is in flight at each kill, and the results of the last moment"},
		{number: 30, name: "drain-term", run: drainTerm,
			promise: "the same with SIGTERM: lost 0, duplicated 0"},
		{number: 32, name: "fifo-kill", ci: true, run: fifoKill, then: inOrder, plan: plan{streams: []streamPlan{{rate: 100, workers: 1, endpoints: 1, fifo: true}}},
			promise: "senders are killed while an endpoint gets its deliveries in strict order: lost 0, none arrives before an earlier one; duplicated at most what is in flight or not noted"},
		{number: 33, name: "sender-stop", run: senderStop, plan: plan{streams: []streamPlan{{rate: 300, endpoints: 1}}},
			promise: "a sender that freezes for longer than its leases, and goes on: lost 0; duplicated at most what is in flight, or not noted, as it freezes"},
		{number: 33, name: "drain-stop", run: drainStop,
			promise: "the same while an outage's backlog is worked off, for longer than the claim on it"},
		{number: 20, name: "slow-requests", ci: true, plan: calm(), run: abuse{connections: slowConnections, bodies: slowConnections * 20, lasts: 14 * time.Second, attack: apart("slow-requests")}.run,
			promise: fmt.Sprintf("2,000 heads and bodies that come a byte a second end after 10 s; %s", unharmed)},
		{number: 22, name: "lying-lengths", ci: true, plan: calm(), run: abuse{connections: 1010, bodies: 1000 * 20_000, lasts: 8 * time.Second, attack: apart("lying-lengths")}.run,
			promise: fmt.Sprintf("what is announced costs nothing before it comes, and of what is contradictory no more is answered than an honest parser sees; %s", unharmed)},
		{number: 34, name: "header-floods", plan: calm(), run: abuse{connections: 64, lasts: 8 * time.Second, attack: apart("header-floods")}.run,
			promise: fmt.Sprintf("heads of a thousand headers, and endless ones; %s", unharmed)},
		{number: 35, name: "json-bombs", plan: calm(), run: abuse{connections: 4, bodies: 4 * 5 << 20, lasts: 8 * time.Second, attack: apart("json-bombs")}.run,
			promise: fmt.Sprintf("depth, size, long numbers, escapes, repeated names: refused or accepted as documented; %s", unharmed)},
		{number: 36, name: "idle-connections", plan: calm(), run: abuse{connections: mostConnections, lasts: 12 * time.Second, attack: apart("idle-connections")}.run,
			promise: fmt.Sprintf("of more idle connections than the gateway takes, the rest is shed with 503; %s", unharmed)},
		{number: 37, name: "hostile-receivers", run: abuse{lasts: 15 * time.Second, attack: hostileReceivers}.run, plan: plan{streams: []streamPlan{{rate: 200, endpoints: 1}, {rate: 5, endpoints: len(hostilities()), proxied: true}},
			settings: map[string]string{"SEALPOST_DELIVERY_TIMEOUT": "2s"}},
			promise: fmt.Sprintf("endpoints that never answer, drip, send without end, or bombs; %s", unharmed)},
		{number: 28, name: "soak", run: soak, then: soakEnds, plan: plan{proxied: true, paced: true, redis: lab.RedisOptions{Fsync: "always"},
			streams: []streamPlan{{endpoints: 2, proxied: true, workers: 64, keyed: 64}, {endpoints: 2, proxied: true, workers: 64, keyed: 64}}},
			promise: "rounds of kills, stops and network faults in any order, drawn from the seed, at 60 % of the machine's capacity: lost 0; duplicated at most what is in flight at each; what runs through all rounds does not grow"},
	}
}

// unharmed is what abuse promises beside its own.
const unharmed = "lost 0, duplicated 0; memory and files within their ceilings, the good clients' p99 below twice what it was, or 25 ms"

// calm is the world of abuse: good clients at a rate that leaves CPU time.
func calm() plan { return plan{streams: []streamPlan{{rate: 200, endpoints: 1}}} }

// proof is a fault that is proven elsewhere.
type proof struct {
	number     int
	name, test string
}

// elsewhere lists the faults that tests of one part prove better.
func elsewhere() []proof {
	return []proof{
		{11, "eviction policy", "TestReadiness in cmd/internal/e2e"},
		{18, "addresses that are not public", "TestEndpointURLs, TestBlockedAddresses and TestOwnAddressesAreBlocked in cmd/internal/e2e, TestGuardRefuses and TestCanonicalURLRefuses in core/egress"},
		{19, "names that resolve to them", "TestHostileNames in cmd/internal/e2e, TestNamesAreJudgedByTheirAddresses and TestNameServersInTurn in core/egress"},
		{21, "fuzzing", "make fuzz"},
		{23, "secrets that leak", "TestNoSecretAnywhere and TestWrongMasterKey in cmd/internal/e2e, and after each fault of this list"},
		{24, "rotation under load", "TestRotation in cmd/internal/e2e"},
		{25, "the schedule's properties", "TestScheduleProperties in core/retry"},
		{27, "clock skew", "TestFaults in cmd/internal/app/doctor"},
	}
}
