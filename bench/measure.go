package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// result is what one measurement found.
type result struct {
	Scenario   string  `json:"scenario"`
	Variant    string  `json:"variant,omitempty"`
	Turn       int     `json:"turn"`    // from 0; 0 where there are no turns
	Seconds    float64 `json:"seconds"` // first request to last receipt
	Accepted   int64   `json:"accepted"`
	Rejected   int64   `json:"rejected"`
	Delivered  int64   `json:"delivered"`
	Lost       int     `json:"lost"`
	Duplicated int64   `json:"duplicated"`
	Forged     int64   `json:"forged"` // bad signature, or nothing we sent

	AcceptedPerSecond  float64 `json:"accepted_per_second"` // while producers ran
	DeliveredPerSecond float64 `json:"delivered_per_second"`
	Accept             spread  `json:"accept_latency"`
	Delivery           spread  `json:"delivery_latency"` // accept → received

	CPU        map[string]float64 `json:"cpu_us_per_delivery"`
	PeakMemory map[string]int64   `json:"peak_memory_bytes"`
	Figures    map[string]float64 `json:"figures,omitempty"` // of one scenario only
	Error      string             `json:"last_error,omitempty"`

	histogram *hdrhistogram.Histogram
}

// wrong reports whether something was lost, doubled or forged.
func (r *result) wrong() bool { return r.Lost > 0 || r.Duplicated > 0 || r.Forged > 0 }

// spread is a latency distribution, in milliseconds.
type spread struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func spreadOf(h *hdrhistogram.Histogram) spread {
	ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e6 }
	return spread{P50: ms(50), P90: ms(90), P99: ms(99), Max: float64(h.Max()) / 1e6}
}

// load says how to drive what is under test.
type load struct {
	scenario, variant string
	target, key       string // URL to post to
	conns             int
	batch             int                     // events a request
	rate              int                     // requests/s; 0: closed loop
	status            int                     // answer that means accepted; 0: 202
	endpoints         int                     // deliveries per event
	answers           func(endpoint int) bool // nil: all do
	sick              func(endpoint int) bool // nil: none is
	processes         []*lab.Process
}

// patience: how long a run waits for the next receipt once producers stopped: longer
// than it takes until the work of a killed or stuck sender is taken over.
const patience = 2 * time.Minute

// measure drives the load for the length of a measurement and waits for what
// was accepted.
func (r *runner) measure(ctx context.Context, w load) (*result, error) {
	events := min(maxEvents, int(r.length.Seconds()+1)*60_000)
	if w.rate > 0 {
		events = min(maxEvents, int(r.length.Seconds()+2)*w.rate*w.batch)
	}
	l := newLedger(w.endpoints, events)
	if w.sick != nil {
		l.isSick = w.sick
	}
	p, err := newProducer(w.target, w.key, r.payloads, l, max(w.conns, 64))
	if err != nil {
		return nil, err
	}
	p.batch = w.batch
	if w.status != 0 {
		p.status = w.status
	}
	r.receiver.ledger.Store(l)
	defer r.receiver.ledger.Store(nil)

	before, err := connectionsOf(ctx, w.processes)
	if err != nil {
		return nil, err
	}
	cpu := cpuOf(w.processes)
	own := ownCPU()
	stopProgress := r.showProgress(w.scenario+" "+w.variant, l)
	stopProfile := r.takeProfiles(w)
	loadCtx, cancel := context.WithTimeout(ctx, r.length)
	start := time.Now()
	l.started = start
	if w.rate > 0 {
		p.openLoop(loadCtx, w.rate, w.conns)
	} else {
		p.closedLoop(loadCtx, w.conns)
	}
	cancel()
	loaded := time.Since(start)
	stopProfile()
	awaitReceipts(ctx, l, w)
	stopProgress()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	end := time.Unix(0, l.lastAt.Load())
	res := &result{
		Scenario: w.scenario, Variant: w.variant, Seconds: end.Sub(start).Seconds(),
		Accepted: l.acceptedN.Load(), Rejected: l.rejected.Load() + p.failed.Load(), Delivered: l.receipts.Load(),
		Duplicated: l.repeats.Load(), Forged: l.forged.Load(), Lost: l.lost(w.answering),
		AcceptedPerSecond: float64(l.acceptedN.Load()) / loaded.Seconds(),
		CPU:               make(map[string]float64), PeakMemory: make(map[string]int64), Figures: make(map[string]float64),
		histogram: l.healthy.merged(),
	}
	res.Accept, res.Delivery = spreadOf(l.acceptLatency.merged()), spreadOf(res.histogram)
	if res.Seconds > 0 {
		res.DeliveredPerSecond = float64(res.Delivered) / res.Seconds
	}
	if text := p.lastErr.Load(); text != nil {
		res.Error = *text
	}
	perDelivery := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(max(res.Delivered, 1)) }
	res.CPU["bench"] = perDelivery(ownCPU() - own)
	for name, d := range cpuOf(w.processes) {
		res.CPU[name] = perDelivery(d - cpu[name])
	}
	now, err := connectionsOf(ctx, w.processes)
	if err != nil {
		return nil, err
	}
	if fresh, reused := now.fresh-before.fresh, now.reused-before.reused; fresh+reused > 0 {
		res.Figures["connections_reused_percent"] = 100 * reused / (fresh + reused)
	}
	for _, p := range w.processes {
		res.PeakMemory[p.Name] = p.PeakMemory()
	}
	return res, nil
}

func (w *load) answering(endpoint int) bool { return w.answers == nil || w.answers(endpoint) }

// awaitReceipts returns when all that was accepted for answering endpoints has
// come, or nothing has come for a while.
func awaitReceipts(ctx context.Context, l *ledger, w load) {
	answering := 0
	for e := range w.endpoints {
		if w.answering(e) {
			answering++
		}
	}
	want := l.acceptedN.Load() * int64(answering)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	quiet, before := time.Now(), int64(-1)
	for {
		got := l.receipts.Load()
		// Events that were answered 503 may arrive as well, and stand in for none.
		if got >= want && l.lost(w.answering) == 0 {
			return
		}
		if got != before {
			quiet, before = time.Now(), got
		}
		if time.Since(quiet) > patience {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func cpuOf(ps []*lab.Process) map[string]time.Duration {
	m := make(map[string]time.Duration, len(ps))
	for _, p := range ps {
		m[p.Name] = p.CPU()
	}
	return m
}

// showProgress keeps one line up to date on a terminal, or writes one every few
// seconds elsewhere.
func (r *runner) showProgress(title string, l *ledger) (stop func()) {
	interval, format := 5*time.Second, "%s: %.0fs, %d accepted, %d delivered, p99 %.1f ms\n"
	if r.terminal {
		interval, format = 500*time.Millisecond, "\r\033[K%s: %.0fs, %d accepted, %d delivered, p99 %.1f ms"
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(os.Stderr, format, strings.TrimSpace(title), time.Since(l.started).Seconds(), l.acceptedN.Load(), l.receipts.Load(), spreadOf(l.delivery.merged()).P99)
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		if r.terminal {
			fmt.Fprint(os.Stderr, "\r\033[K")
		}
	}
}

// takeProfiles fetches a CPU profile of gateway and senders while a measurement
// runs, where --profile asks for it.
func (r *runner) takeProfiles(w load) (stop func()) {
	if r.o.profile == "" {
		return func() {}
	}
	var wg sync.WaitGroup
	seconds := max(1, int(r.length.Seconds())-1)
	for _, p := range w.processes {
		if p.Admin == "" {
			continue
		}
		wg.Go(func() {
			name := strings.NewReplacer(" ", "-", "/", "-per-").Replace(strings.TrimSpace(w.scenario+" "+w.variant+" "+p.Name)) + ".pprof"
			if err := download(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", p.Admin, seconds), filepath.Join(r.o.profile, name)); err != nil {
				fmt.Fprintln(os.Stderr, "profile:", err)
			}
		})
	}
	return wg.Wait
}

// ownCPU returns the CPU time of bench itself.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
