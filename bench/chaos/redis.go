package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// redisKill kills Redis and starts it again.
func redisKill(n, few int) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		for range w.times(n, few) {
			if err := sleep(ctx, 1500*time.Millisecond); err != nil {
				return err
			}
			if err := w.killRedis(ctx); err != nil {
				return err
			}
		}
		return sleep(ctx, time.Second)
	}
}

func (w *world) killRedis(ctx context.Context) error {
	if w.stack.Redis.Fsync() != "always" {
		w.mayLose()
	}
	w.stack.Redis.Kill()
	w.res.Injected++
	if err := sleep(ctx, time.Duration(w.random.IntN(500))*time.Millisecond); err != nil {
		return err
	}
	return w.stack.Redis.Start()
}

// lossyTime is how old what Redis loses can be with everysec: it syncs every second,
// and answers up to two seconds ahead of a disk that is slow.
const lossyTime = 2 * time.Second

// mayLose notes that what was accepted just now may be lost, or come again.
func (w *world) mayLose() {
	w.losses = append(w.losses, time.Now())
	for _, s := range w.streams {
		n := int(lossyTime.Seconds()*float64(s.plan.rate)) * s.plan.endpoints
		w.res.LostAtMost += n
		w.res.DuplicatesAtMost += n
	}
}

// redisMachine kills Redis together with what its file got in the last second, as
// if the machine had died. No sender works in that second, or most of what Redis
// forgets would be at the receivers already.
func redisMachine(ctx context.Context, w *world) error {
	files, err := filepath.Glob(filepath.Join(w.stack.Redis.Data, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("append-only files %v: %w", files, err)
	}
	if err := sleep(ctx, w.long(4*time.Second, 2*time.Second)); err != nil {
		return err
	}
	w.stack.StopSenders()
	before, err := os.Stat(files[0])
	if err != nil {
		return err
	}
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	w.mayLose()
	w.stack.Redis.Kill()
	w.res.Injected++
	if err := os.Truncate(files[0], before.Size()); err != nil {
		return err
	}
	w.res.LostAtLeast = 1
	if err := w.stack.Redis.Start(); err != nil {
		return err
	}
	if err := w.stack.StartSenders(ctx); err != nil {
		return err
	}
	return sleep(ctx, w.long(4*time.Second, time.Second))
}

func redisStop20(ctx context.Context, w *world) error {
	w.receiver.turn(take(10 * time.Millisecond))
	return w.redisStop(ctx, w.long(20*time.Second, 3*time.Second))
}

func redisStop45(ctx context.Context, w *world) error {
	w.receiver.turn(take(10 * time.Millisecond))
	return w.redisStop(ctx, w.long(45*time.Second, 3*time.Second))
}

// mostRefusal is how late a 503 may be: 2 s are promised, and one more is for a
// machine that does much else.
const mostRefusal = 3 * time.Second

const (
	// leaseTime is how long a task is its sender's without word from it.
	leaseTime = 30 * time.Second

	// mostRecovery is how late events may be accepted again. What Redis finds in its
	// sockets as it wakes reserves the keys of requests that have been answered 503
	// long ago; such a reservation lasts 5 s.
	mostRecovery = 15 * time.Second
)

// redisStop freezes Redis for d.
func (w *world) redisStop(ctx context.Context, d time.Duration) error {
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := w.noteGoroutines(ctx); err != nil {
		return err
	}
	before := w.stack.Gateway.Memory()
	if d > leaseTime {
		w.mayRepeat()
	}
	b := w.streams[0].books
	if err := w.stopRedis(ctx, d); err != nil {
		return err
	}
	accepted, back := b.count(&b.accepted), time.Now()
	w.res.Figures["gateway_MiB_more"] = float64(w.stack.Gateway.Memory()-before) / (1 << 20)
	if b.count(&b.refused) == 0 {
		w.broken("no event was refused while Redis was frozen")
	}
	if more := w.stack.Gateway.Memory() - before; more > 32<<20 {
		w.broken("the gateway took %d MiB more", more>>20)
	}
	b.mu.Lock()
	slowest := b.refusal
	b.mu.Unlock()
	w.res.Figures["refused_within_s"] = slowest.Seconds()
	if slowest > mostRefusal {
		w.broken("an event was refused only after %v", slowest)
	}
	for b.count(&b.accepted) == accepted {
		if time.Since(back) > mostRecovery {
			w.broken("no event is accepted %v after Redis is back", mostRecovery)
			break
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	w.res.Figures["accepted_again_s"] = time.Since(back).Seconds()
	return sleep(ctx, 3*time.Second)
}

// redisFull publishes into a Redis that other data fills by three fifths, while no
// sender works, until events are refused; then the senders come back.
func redisFull(ctx context.Context, w *world) error {
	limit, err := w.stack.RedisInfo(ctx, "memory", "maxmemory")
	if err != nil {
		return err
	}
	w.stack.StopSenders()
	ballast := make([]byte, 1<<20)
	for n := 0; ; n++ {
		used, err := w.stack.RedisInfo(ctx, "memory", "used_memory")
		if err != nil {
			return err
		}
		if float64(used) > 0.6*float64(limit) {
			break
		}
		random := rand.NewPCG(w.o.seed, uint64(n))
		for i := range ballast {
			ballast[i] = byte(random.Uint64())
		}
		if err := w.stack.Client.Set(ctx, "ballast:"+strconv.Itoa(n), ballast, 0).Err(); err != nil {
			return err
		}
	}
	w.res.Injected++
	b := w.streams[0].books
	most := int64(0)
	for end := time.Now().Add(40 * time.Second); b.count(&b.refused) < 50; {
		used, err := w.stack.RedisInfo(ctx, "memory", "used_memory")
		if err != nil {
			return err
		}
		if most = max(most, used); time.Now().After(end) {
			w.broken("no event is refused: Redis has %d of %d bytes", used, limit)
			break
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	w.res.Figures["full_percent"] = 100 * float64(most) / float64(limit)
	if float64(most) > 0.85*float64(limit) {
		w.broken("Redis was %d %% full before events were refused", 100*most/limit)
	}
	w.res.Figures["waiting"] = float64(b.count(&b.outstanding))
	if err := w.stack.StartSenders(ctx); err != nil {
		return err
	}
	return sleep(ctx, time.Second)
}

// scriptFlush has Redis forget all scripts, again and again.
func scriptFlush(ctx context.Context, w *world) error {
	for range w.times(10, 3) {
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		if err := w.stack.Client.ScriptFlush(ctx).Err(); err != nil {
			return err
		}
		w.res.Injected++
	}
	if b := w.streams[0].books; b.count(&b.refused) > 0 {
		w.broken("%d events were refused", b.count(&b.refused))
	}
	return nil
}

// ghostTasks deletes the data of tasks that wait while no sender works.
func ghostTasks(ctx context.Context, w *world) error {
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	w.stack.StopSenders()
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	keys := w.stack.Client.Scan(ctx, 0, "asynq:{deliver-*}:t:*", 1000).Iterator()
	for keys.Next(ctx) && w.res.Injected < 100 {
		// With one producer that waits for each answer, each task is one delivery.
		if err := w.stack.Client.Del(ctx, keys.Val()).Err(); err != nil {
			return err
		}
		w.res.Injected++
	}
	w.res.LostAtLeast, w.res.LostAtMost = w.res.Injected, w.res.Injected
	if err := keys.Err(); err != nil {
		return err
	}
	return w.stack.StartSenders(ctx)
}

// ghostsCounted compares the metric with what was deleted.
func ghostsCounted(ctx context.Context, w *world) error {
	n := 0.0
	for _, p := range w.stack.Senders {
		v, err := metric(ctx, p, `sealpost_queue_repairs_total{kind="ghost"}`)
		if err != nil {
			return err
		}
		n += v
	}
	w.res.Figures["counted"] = n
	if int(n) != w.res.Injected {
		w.broken("%d tasks were deleted, and %v are counted", w.res.Injected, n)
	}
	return nil
}

// noteGoroutines keeps how many each program has.
func (w *world) noteGoroutines(ctx context.Context) error {
	for name, p := range w.programs() {
		n, err := metric(ctx, p, "go_goroutines")
		if err != nil {
			return err
		}
		w.res.Figures[name+"_goroutines"] = n
	}
	return nil
}

// sameGoroutines compares with what noteGoroutines kept. Connections that are kept
// open for a while count among them.
func sameGoroutines(ctx context.Context, w *world) error {
	for name, p := range w.programs() {
		n, err := metric(ctx, p, "go_goroutines")
		if err != nil {
			return err
		}
		before, ok := w.res.Figures[name+"_goroutines"]
		w.res.Figures[name+"_goroutines_after"] = n
		if ok && n > 1.5*before+100 {
			w.broken("%s has %v goroutines, before %v", name, n, before)
		}
	}
	return nil
}

func (w *world) programs() map[string]*lab.Process {
	ps := map[string]*lab.Process{"gateway": w.stack.Gateway}
	for i, p := range w.stack.Senders {
		ps["sender"+strconv.Itoa(i)] = p
	}
	return ps
}

// metric returns the value of a series that a program exposes, 0 if there is none.
func metric(ctx context.Context, p *lab.Process, series string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var all bytes.Buffer
	if _, err := all.ReadFrom(resp.Body); err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(&all); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, nil
}
