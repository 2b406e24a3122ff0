package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
	"github.com/sealpost/sealpost/bench/internal/proxy"
)

// world is a Sealpost with its producers and receivers, in which a fault happens.
type world struct {
	stack    *lab.Stack
	receiver *receiver
	streams  []*stream
	toRedis  map[string]*proxy.Proxy // by program, where the plan asks for it
	random   *rand.Rand
	o        *options
	ended    time.Time // when publishing did

	res    *result
	noted  time.Duration // see mayRepeat
	losses []time.Time   // when what had just been accepted was put at risk
}

// stream is an organization, its events, and its endpoints.
type stream struct {
	plan     streamPlan
	api, key string
	payloads *lab.Payloads
	books    *books
	ids      []string // of its endpoints
	secrets  [][]byte
	links    []*proxy.Proxy // to its endpoints, where the plan asks for it
}

// senders is how many there are.
const senders = 2

func newWorld(ctx context.Context, o *options, f *fault, random *rand.Rand) (*world, error) {
	w := &world{o: o, noted: notedBundles, random: random, toRedis: make(map[string]*proxy.Proxy), res: newResult(f)}
	if err := w.start(ctx, f.plan); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) start(ctx context.Context, p plan) (err error) {
	if w.receiver, err = newReceiver(); err != nil {
		return err
	}
	// Attempts follow each other within seconds, so that quiet comes soon.
	settings := map[string]string{"SEALPOST_RETRY_BASE": "1s", "SEALPOST_RETRY_FACTOR": "2", "SEALPOST_RETRY_CAP": "10s", "SEALPOST_BACKLOG_RETENTION": "1h"}
	for name, value := range p.settings {
		settings[name] = value
	}
	var front error
	so := lab.Options{Bin: w.o.bin, Senders: senders, Settings: settings, Redis: p.redis}
	if p.proxied {
		so.Front = func(program, addr string) string {
			if w.toRedis[program] == nil {
				link, err := proxy.Start(addr)
				if err != nil {
					front = err
					return addr
				}
				w.toRedis[program] = link
			}
			return w.toRedis[program].Addr()
		}
	}
	if w.stack, err = lab.StartStack(ctx, so); err != nil {
		return err
	}
	if front != nil {
		return front
	}
	plans := p.streams
	if len(plans) == 0 {
		plans = []streamPlan{{rate: 500, endpoints: 1}}
	}
	for i := range plans {
		if err := w.addStream(ctx, i, plans[i]); err != nil {
			return err
		}
	}
	w.receiver.streams.Store(&w.streams)
	return nil
}

func (w *world) addStream(ctx context.Context, number int, p streamPlan) error {
	if p.workers == 0 {
		p.workers = 32
	}
	if p.payload == 0 {
		p.payload = 300
	}
	key, err := w.stack.CreateKey(ctx, "stream"+strconv.Itoa(number))
	if err != nil {
		return err
	}
	s := &stream{plan: p, api: w.stack.API, key: key, payloads: lab.NewPayloads(p.payload), books: newBooks(p.endpoints)}
	w.streams = append(w.streams, s) // so that its proxies are closed in any case
	for i := range p.endpoints {
		host := w.receiver.listener.Addr().String()
		if p.proxied {
			link, err := proxy.Start(host)
			if err != nil {
				return err
			}
			s.links, host = append(s.links, link), link.Addr()
		}
		path := fmt.Sprintf("/%d/%d", number, i)
		ids, secrets, err := lab.API{Base: s.api, Key: key}.Subscribe(ctx, 1, func(int) string { return "http://" + host + path }, "call.qualified")
		if err != nil {
			return err
		}
		if p.fifo {
			var changed struct{}
			if err := (lab.API{Base: s.api, Key: key}).Call(ctx, "PATCH", "/api/v1/webhooks/"+ids[0], map[string]string{"ordering": "fifo"}, &changed); err != nil {
				return err
			}
		}
		s.ids, s.secrets = append(s.ids, ids...), append(s.secrets, secrets...)
	}
	return nil
}

// publish has all streams publish until stop is called, which returns when each
// event is accepted or given up.
func (w *world) publish(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, s := range w.streams {
		seed := w.random.Uint64()
		wg.Go(func() { s.publish(ctx, seed) })
	}
	return func() {
		cancel()
		wg.Wait()
		w.ended = time.Now()
	}
}

// quietLimit is how long quiet is waited for once publishing has ended. The work of
// a killed sender is taken over up to two minutes later.
const quietLimit = 180 * time.Second

// quiet waits until everything accepted has been received or is a dead letter, and
// nothing is left in Redis to be done: a duplicate may come last.
func (w *world) quiet(ctx context.Context) error {
	calm := 0 // looks in a row that found nothing to do
	for {
		left, err := w.left(ctx)
		switch {
		case err == nil && len(left) == 0:
			calm++
		default:
			calm = 0
		}
		if calm == 4 {
			w.res.QuietAfter = time.Since(w.ended).Seconds()
			return nil
		}
		if time.Since(w.ended) > quietLimit {
			w.broken("not quiet %v after the last event: %s %v", quietLimit, strings.Join(left, ", "), err)
			return nil
		}
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// left tells what there is to be done.
func (w *world) left(ctx context.Context) ([]string, error) {
	var left []string
	for i, s := range w.streams {
		if s.books.count(&s.books.outstanding) == 0 {
			continue
		}
		dead, err := w.deadLetters(ctx, s)
		if err != nil {
			return nil, err
		}
		if n, _, _ := s.books.missing(dead); n > w.res.LostAtMost {
			left = append(left, fmt.Sprintf("%d deliveries of stream %d", n, i))
		}
	}
	if n := w.receiver.inFlight.Load(); n > 0 {
		left = append(left, fmt.Sprintf("%d requests", n))
	}
	queued, err := w.queued(ctx)
	return append(left, queued...), err
}

// queued tells which lists of tasks and backlogs in Redis are not empty.
func (w *world) queued(ctx context.Context) ([]string, error) {
	c := w.stack.Client
	var left []string
	note := func(key string, n int64, err error) error {
		if n > 0 {
			left = append(left, fmt.Sprintf("%d in %s", n, key))
		}
		return err
	}
	queues, err := c.SMembers(ctx, "asynq:queues").Result()
	if err != nil {
		return nil, err
	}
	for _, q := range queues {
		for _, list := range []string{":pending", ":active"} {
			key := "asynq:{" + q + "}" + list
			n, err := c.LLen(ctx, key).Result()
			if err := note(key, n, err); err != nil {
				return nil, err
			}
		}
		for _, set := range []string{":scheduled", ":retry", ":lease", ":archived"} {
			key := "asynq:{" + q + "}" + set
			n, err := c.ZCard(ctx, key).Result()
			if err := note(key, n, err); err != nil {
				return nil, err
			}
		}
	}
	n, err := c.ZCard(ctx, "sp:{drain-00}:waiting").Result()
	return left, note("backlogs", n, err)
}

// deadLetters returns the event ids of the dead letters of each of s's endpoints.
func (w *world) deadLetters(ctx context.Context, s *stream) ([]map[string]bool, error) {
	dead := make([]map[string]bool, len(s.ids))
	for i, id := range s.ids {
		dead[i] = make(map[string]bool)
		for from := "-"; ; {
			entries, err := w.stack.Client.XRangeN(ctx, "sp:{ep:"+id+"}:dead", from, "+", 1000).Result()
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				event, _ := e.Values["event"].(string)
				dead[i][event] = true
			}
			if len(entries) < 1000 {
				break
			}
			from = "(" + entries[len(entries)-1].ID
		}
	}
	return dead, nil
}

func (w *world) close() {
	for _, s := range w.streams {
		for _, link := range s.links {
			link.Close()
		}
	}
	if w.stack != nil {
		w.stack.Close()
	}
	for _, p := range w.toRedis {
		p.Close()
	}
	if w.receiver != nil {
		w.receiver.close()
	}
}

// How old a result can be that is not in Redis yet. Those of bundles are collected
// for 50 ms, those out of backlogs for 100 ms, and then stored; a busy machine gets
// a while more for it.
const (
	notedBundles  = 150 * time.Millisecond
	notedBacklogs = 300 * time.Millisecond
)

// mayRepeat notes that whatever is in flight now, or has just ended, may come once
// more: its sender is about to crash.
func (w *world) mayRepeat() {
	w.res.DuplicatesAtMost += int(w.receiver.inFlight.Load())
	for _, s := range w.streams {
		w.res.DuplicatesAtMost += s.books.since(time.Now().Add(-w.noted))
	}
}

// broken notes a broken promise.
func (w *world) broken(format string, args ...any) {
	w.res.Broken = append(w.res.Broken, fmt.Sprintf(format, args...))
}

// times returns n, or few with --quick.
func (w *world) times(n, few int) int {
	if w.o.quick {
		return few
	}
	return n
}

// long returns d, or brief with --quick.
func (w *world) long(d, brief time.Duration) time.Duration {
	if w.o.quick {
		return brief
	}
	return d
}

// judge closes the books.
func (w *world) judge(ctx context.Context, f *fault) (*result, error) {
	res := w.res
	for _, s := range w.streams {
		b := s.books
		dead, err := w.deadLetters(ctx, s)
		if err != nil {
			return nil, err
		}
		lost, buried, accepted := b.missing(dead)
		if len(w.losses) > 0 {
			for _, at := range accepted {
				if !slices.ContainsFunc(w.losses, func(loss time.Time) bool { return at.Sub(loss).Abs() <= lossyTime }) {
					w.broken("an event accepted at %v is lost, although nothing happened then", at)
				}
			}
		}
		res.Gap = max(res.Gap, b.gap().Seconds())
		b.mu.Lock()
		res.Accepted += b.accepted
		res.Delivered += b.delivered
		res.Lost += lost
		res.Dead += buried
		res.Duplicated += b.repeated - b.reoffered
		res.Reoffered += b.reoffered
		res.Forged += b.forged
		res.Split += b.split
		res.Refused += b.refused
		res.Unconfirmed += b.unconfirmed
		res.Slowest = max(res.Slowest, b.slowest.Seconds())
		res.Refusal = max(res.Refusal, b.refusal.Seconds())
		for _, text := range b.odd {
			w.broken("an event was answered %s", text)
		}
		if b.bare > 0 {
			w.broken("%d answers said 503 or 409 without Retry-After", b.bare)
		}
		b.mu.Unlock()
	}
	switch {
	case res.Accepted == 0:
		w.broken("nothing was accepted")
	case res.Injected == 0:
		w.broken("no fault happened")
	}
	if res.Lost < res.LostAtLeast || res.Lost > res.LostAtMost {
		w.broken("%d lost, promised are %s", res.Lost, res.lostPromise())
	}
	if res.Duplicated > res.DuplicatesAtMost {
		w.broken("%d duplicated, promised are %d at most", res.Duplicated, res.DuplicatesAtMost)
	}
	if f.once && res.Reoffered > 0 {
		w.broken("%d came twice that were offered again", res.Reoffered)
	}
	if res.Forged > 0 {
		w.broken("%d signatures do not verify", res.Forged)
	}
	if res.Split > 0 {
		w.broken("%d times one key was accepted under two ids", res.Split)
	}
	for i, p := range w.stack.Senders {
		if p.Ended() {
			w.broken("sender%d is gone", i)
		}
	}
	if w.stack.Gateway.Ended() {
		w.broken("the gateway is gone")
	}
	w.stack.Keep = len(res.Broken) > 0
	return res, ctx.Err()
}
