package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// scenarios is the plan, in the order in which it runs: half-load needs `single`.
func scenarios() []scenario {
	return []scenario{
		{name: "floor", run: (*runner).floor, turns: true},
		{name: "plain-asynq", run: (*runner).plainAsynq, turns: true},
		{name: "single", run: (*runner).single, turns: true},
		{name: "batch", run: (*runner).batch, turns: true},
		{name: "fanout10", run: (*runner).fanout10, turns: true},
		{name: "tls", run: (*runner).tls},
		{name: "steady200", run: (*runner).steady200},
		{name: "half-load", run: (*runner).halfLoad},
		{name: "dead1of100", run: (*runner).dead1of100},
		{name: "slow10of100", run: (*runner).slow10of100},
		{name: "flood", run: (*runner).flood},
		{name: "outage", run: (*runner).outage},
		{name: "backlog", run: (*runner).backlog},
		{name: "idle", run: (*runner).idle},
		{name: "durability", run: (*runner).durability, extra: true},
		{name: "scale-payload", run: (*runner).scalePayload, extra: true},
		{name: "scale-endpoints", run: (*runner).scaleEndpoints, extra: true},
		{name: "scale-backlog", run: (*runner).scaleBacklog, extra: true},
	}
}

// The numbers of the scenarios.
const (
	batchSize   = 100
	steadyRate  = 200
	manyHosts   = 100
	slowHosts   = 10
	slowAnswer  = 2 * time.Second
	backlogSize = 20_000
	eventType   = "call.qualified"
)

// some returns the settings to try: with --quick the first one only.
func (r *runner) some(settings ...int) []int {
	if r.o.quick {
		return settings[:1]
	}
	return settings
}

// floor: producer to receiver with nothing between; the best of three.
func (r *runner) floor(ctx context.Context) error {
	for _, conns := range r.some(32, 64, 256) {
		res, err := r.measure(ctx, load{scenario: "floor", variant: fmt.Sprintf("%d conns", conns), target: r.receiver.url(0), conns: conns, batch: 1, status: 200, endpoints: 1})
		if err != nil {
			return err
		}
		r.add(res)
	}
	return nil
}

// plainAsynq: one default task per delivery; the best of three concurrencies.
func (r *runner) plainAsynq(ctx context.Context) error {
	for _, concurrency := range r.some(16, 64, 256) {
		if err := r.plain(ctx, load{scenario: "plain-asynq", variant: fmt.Sprintf("concurrency %d", concurrency)}, "5ms", concurrency); err != nil {
			return err
		}
	}
	return nil
}

// plain puts a load on asynq, used plainly.
func (r *runner) plain(ctx context.Context, l load, poll string, concurrency int) error {
	s, err := startPlain(ctx, r.receiver.url(0), poll, concurrency)
	if err != nil {
		return err
	}
	defer s.close()
	r.receiver.keys.Store(nil) // asynq's task ids are random; nothing here checks them
	l.target, l.conns, l.batch, l.endpoints, l.processes = s.api+"/", 64, 1, 1, s.processes()
	res, err := r.measure(ctx, l)
	if err == nil {
		r.add(res)
	}
	return err
}

// subscribed runs f with n endpoints subscribed.
func (r *runner) subscribed(ctx context.Context, n int, f func(*lab.Stack) error) error {
	return r.subscribedAt(ctx, n, r.receiver.url, f)
}

func (r *runner) subscribedAt(ctx context.Context, n int, url func(int) string, f func(*lab.Stack) error) error {
	s, err := r.sealpost(ctx)
	if err != nil {
		return err
	}
	api := lab.API{Base: s.API, Key: s.Key}
	ids, keys, err := api.Subscribe(ctx, n, url, eventType)
	if err != nil {
		return err
	}
	r.receiver.keys.Store(&keys)
	defer r.receiver.keys.Store(nil)
	if err := f(s); err != nil {
		return err
	}
	if r.stack != s {
		return nil // it is gone, with its endpoints
	}
	return api.Unsubscribe(ctx, ids)
}

func eventsURL(s *lab.Stack) string { return s.API + "/api/v1/events" }
func batchURL(s *lab.Stack) string  { return s.API + "/api/v1/events/batch" }

func (r *runner) single(ctx context.Context) error {
	return r.subscribed(ctx, 1, func(s *lab.Stack) error {
		for _, conns := range r.some(64, 256) {
			res, err := r.measure(ctx, load{scenario: "single", variant: fmt.Sprintf("%d conns", conns), target: eventsURL(s), key: s.Key, conns: conns, batch: 1, endpoints: 1, processes: s.Processes()})
			if err != nil {
				return err
			}
			r.add(res)
		}
		return nil
	})
}

func (r *runner) batch(ctx context.Context) error {
	return r.subscribed(ctx, 1, func(s *lab.Stack) error {
		for _, conns := range r.some(8, 32) {
			res, err := r.measure(ctx, load{scenario: "batch", variant: fmt.Sprintf("%d conns", conns), target: batchURL(s), key: s.Key, conns: conns, batch: batchSize, endpoints: 1, processes: s.Processes()})
			if err != nil {
				return err
			}
			r.add(res)
		}
		return nil
	})
}

func (r *runner) fanout10(ctx context.Context) error {
	return r.subscribed(ctx, 10, func(s *lab.Stack) error {
		res, err := r.measure(ctx, load{scenario: "fanout10", target: eventsURL(s), key: s.Key, conns: 64, batch: 1, endpoints: 10, processes: s.Processes()})
		if err == nil {
			r.add(res)
		}
		return err
	})
}

// tls: batch, to an https:// endpoint.
func (r *runner) tls(ctx context.Context) error {
	return r.subscribedAt(ctx, 1, r.receiver.secureURL, func(s *lab.Stack) error {
		res, err := r.measure(ctx, load{scenario: "tls", variant: "32 conns", target: batchURL(s), key: s.Key, conns: 32, batch: batchSize, endpoints: 1, processes: s.Processes()})
		if err == nil {
			r.add(res)
		}
		return err
	})
}

// steady200: the steady rate, in turns with asynq at its default poll.
func (r *runner) steady200(ctx context.Context) error {
	whole := r.length
	defer func() { r.length, r.turn = whole, 0 }()
	r.length = r.turnLength()
	for r.turn = range r.turns(steadyTurns) {
		plain := load{scenario: "plain-asynq-steady200", variant: fmt.Sprintf("default poll, turn %d", r.turn+1), rate: steadyRate}
		if err := r.plain(ctx, plain, "1s", 64); err != nil {
			return err
		}
		err := r.subscribed(ctx, 1, func(s *lab.Stack) error {
			res, err := r.measure(ctx, load{scenario: "steady200", variant: fmt.Sprintf("turn %d", r.turn+1), target: eventsURL(s), key: s.Key, conns: 64, batch: 1, rate: steadyRate, endpoints: 1, processes: s.Processes()})
			if err == nil {
				r.add(res)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// halfLoad: an open loop at half the rate that `single` reached.
func (r *runner) halfLoad(ctx context.Context) error {
	rate := 2000
	if best := r.find("single"); best != nil {
		rate = max(1, int(best.DeliveredPerSecond/2))
	}
	return r.subscribed(ctx, 1, func(s *lab.Stack) error {
		res, err := r.measure(ctx, load{scenario: "half-load", variant: fmt.Sprintf("%d/s", rate), target: eventsURL(s), key: s.Key, conns: 256, batch: 1, rate: rate, endpoints: 1, processes: s.Processes()})
		if err == nil {
			r.add(res)
		}
		return err
	})
}

// deadAnswer is when a dead endpoint would answer: long after every deadline.
const deadAnswer = 30 * time.Second

// dead1of100: of 100 endpoints, each subscribed to all events, one accepts
// connections and never answers. The same load with all healthy comes first.
func (r *runner) dead1of100(ctx context.Context) error {
	dead := func(e int) bool { return e == 0 }
	return r.sick(ctx, "dead1of100", dead, func(e int) bool { return !dead(e) }, deadAnswer)
}

// slow10of100: ten of a hundred answer after two seconds.
func (r *runner) slow10of100(ctx context.Context) error {
	slow := func(e int) bool { return e < slowHosts }
	return r.sick(ctx, "slow10of100", slow, nil, slowAnswer)
}

func (r *runner) sick(ctx context.Context, name string, sick, answers func(int) bool, wait time.Duration) error {
	r.fresh()
	defer r.fresh() // what still waits for the sick ones must not disturb others
	rate := 20      // events/s: 2,000 deliveries/s
	return r.subscribed(ctx, manyHosts, func(s *lab.Stack) error {
		run := func(variant string, answers func(int) bool) (*result, error) {
			return r.measure(ctx, load{scenario: name, variant: variant, target: eventsURL(s), key: s.Key, conns: 64, batch: 1, rate: rate, endpoints: manyHosts, processes: s.Processes(), answers: answers, sick: sick})
		}
		healthy, err := run("all healthy", nil)
		if err != nil {
			return err
		}
		r.add(healthy)
		b := behaviour(func(e int) (time.Duration, int) {
			if sick(e) {
				return wait, 200
			}
			return 0, 200
		})
		r.receiver.behave.Store(&b)
		defer r.receiver.behave.Store(nil)
		ill, err := run("with sick", answers)
		if err != nil {
			return err
		}
		ill.Figures["p99_ratio"] = ill.Delivery.P99 / healthy.Delivery.P99
		r.add(ill)
		r.fresh() // the API would wait behind what is stuck
		return nil
	})
}

// backlog: what a pending delivery costs in Redis, with no sender running, and
// that all of it arrives when one starts.
func (r *runner) backlog(ctx context.Context) error {
	r.fresh()
	return r.subscribed(ctx, 1, func(s *lab.Stack) error {
		s.StopSenders()
		before, err := redisMemory(ctx, s)
		if err != nil {
			return err
		}
		l := newLedger(1, backlogSize+1000)
		p, err := newProducer(eventsURL(s), s.Key, r.payloads, l, 64)
		if err != nil {
			return err
		}
		r.receiver.ledger.Store(l)
		defer r.receiver.ledger.Store(nil)
		l.next.Store(1000) // the books end after backlogSize events
		if r.o.quick {
			l.next.Store(backlogSize) // a thousand will do
		}
		p.closedLoop(ctx, 64)
		after, err := redisMemory(ctx, s)
		if err != nil {
			return err
		}
		accepted := l.acceptedN.Load()
		start := time.Now()
		if err := s.StartSenders(ctx); err != nil {
			return err
		}
		awaitReceipts(ctx, l, load{endpoints: 1})
		res := &result{
			Scenario: "backlog", Variant: fmt.Sprintf("%d waiting", accepted), Accepted: accepted, Rejected: l.rejected.Load(), Delivered: l.receipts.Load(),
			Duplicated: l.repeats.Load(), Forged: l.forged.Load(), Lost: l.lost(func(int) bool { return true }),
			Seconds: time.Unix(0, l.lastAt.Load()).Sub(start).Seconds(), Accept: spreadOf(l.acceptLatency.merged()),
			Figures: map[string]float64{"redis_bytes_per_delivery": float64(after-before) / float64(max(accepted, 1))},
		}
		res.DeliveredPerSecond = float64(res.Delivered) / res.Seconds
		r.add(res)
		return nil
	})
}

// idle: what costs when nothing happens.
func (r *runner) idle(ctx context.Context) error {
	s, err := r.sealpost(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil { // what a scenario before left behind
		return err
	}
	commands, err := redisCommands(ctx, s)
	if err != nil {
		return err
	}
	cpu, start := cpuOf(s.Processes()), time.Now()
	if err := pause(ctx, max(r.length, 2*time.Second)); err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	after, err := redisCommands(ctx, s)
	if err != nil {
		return err
	}
	res := &result{Scenario: "idle", Seconds: seconds, Figures: map[string]float64{
		"redis_commands_per_second": (after - commands - 1) / seconds, // less the INFO that asks
	}}
	for name, d := range cpuOf(s.Processes()) {
		res.Figures["cpu_percent_"+name] = 100 * (d - cpu[name]).Seconds() / seconds
	}
	r.add(res)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// redisMemory returns used_memory, in bytes.
func redisMemory(ctx context.Context, s *lab.Stack) (int64, error) {
	return s.RedisInfo(ctx, "memory", "used_memory")
}

// redisCommands returns how many commands Redis has run, those inside scripts
// not counted.
func redisCommands(ctx context.Context, s *lab.Stack) (float64, error) {
	n, err := s.RedisInfo(ctx, "stats", "total_commands_processed")
	return float64(n), err
}
