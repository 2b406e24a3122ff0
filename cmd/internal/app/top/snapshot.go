package top

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
)

// snapshot is what one screen shows.
type snapshot struct {
	at                        time.Time
	interval                  time.Duration
	gateways, senders         int      // that answered
	wantGateways, wantSenders int      // that were asked
	silent                    []string // who did not answer, and why
	flows                     []flow
	inFlight                  float64
	queues                    []queue.QueueStats
	redis                     redisstore.Server // the fullest
	commands                  float64           // a second, of all masters
	backlogs                  core.BacklogOverview
	redisErr                  error
	worst                     []trouble
	worstErr                  error
}

// flow is what happens so many times a second.
type flow struct {
	name     string
	rate     float64 // NaN: not known yet
	p50, p99 float64 // seconds; NaN: nothing happened
	timed    bool
	note     string
}

// notedShares bounds the reasons that a flow names.
const notedShares = 3

// compare makes a snapshot of two looks; with the same look twice there are no
// rates.
func (v *view) compare(before, now look) snapshot {
	s := snapshot{
		at: now.at, interval: v.o.Interval, wantGateways: len(v.o.Gateways), wantSenders: len(v.o.Senders),
		queues: now.queues, backlogs: now.backlogs, redisErr: now.redisErr, worst: now.worst, worstErr: now.worstErr,
	}
	for _, address := range v.addresses {
		process := now.processes[address]
		if process.err != nil {
			s.silent = append(s.silent, fmt.Sprintf("%s: %v", address, process.err))
			continue
		}
		if slices.Contains(v.o.Gateways, address) {
			s.gateways++
		}
		if slices.Contains(v.o.Senders, address) {
			s.senders++
		}
		s.inFlight += process.metrics.sum(inFlight, nil)
	}
	for i := range now.servers {
		if i == 0 || now.servers[i].Fullness() > s.redis.Fullness() {
			s.redis = now.servers[i]
		}
		var n float64
		fmt.Sscan(now.servers[i].Info["instantaneous_ops_per_sec"], &n) // 0 where Redis does not tell
		s.commands += n
	}
	d := differences{before: before.processes, now: now.processes}
	s.flows = []flow{
		d.flow("events accepted", eventsAccepted, nil).timedBy(&d, requestDuration, publishing, "request to answer"),
		d.flow("deliveries stored", deliveriesAccepted, nil),
		d.flow("events refused", eventsRejected, nil).sharedBy(&d, eventsRejected, "code"),
		d.flow("attempts", attempts, nil).timedBy(&d, attemptDuration, nil, "DNS to end of response"),
		d.flow("delivered", deliveriesEnded, having("status", "delivered")).timedBy(&d, deliveryLatency, nil, "accept to delivery, retries included"),
		d.flow("failed attempts", attemptFailures, nil).sharedBy(&d, attemptFailures, "reason"),
		d.flow("retries planned", attempts, having("outcome", "retry")),
		d.flow("dead letters", deadLetters, nil).sharedBy(&d, deadLetters, "reason"),
	}
	return s
}

// differences are two looks at the same processes.
type differences struct {
	before, now map[string]scrape
}

// each calls f with what a process counted between the looks: its metrics now
// and then, and the seconds between. One that was restarted began at nothing.
func (d *differences) each(f func(now, before metrics, seconds float64)) (any bool) {
	for address, now := range d.now {
		before, ok := d.before[address]
		seconds := now.at.Sub(before.at).Seconds()
		if !ok || now.err != nil || before.err != nil || seconds <= 0 {
			continue
		}
		any = true
		if now.metrics.sum(startTime, nil) != before.metrics.sum(startTime, nil) {
			before.metrics = nil
		}
		f(now.metrics, before.metrics, seconds)
	}
	return any
}

// rate returns how much a counter grew a second, in all processes together.
func (d *differences) rate(name string, chosen match) float64 {
	var rate float64
	if !d.each(func(now, before metrics, seconds float64) {
		rate += max(0, now.sum(name, chosen)-before.sum(name, chosen)) / seconds
	}) {
		return math.NaN()
	}
	return rate
}

func (d *differences) flow(name, counter string, chosen match) flow {
	return flow{name: name, rate: d.rate(counter, chosen)}
}

// timedBy adds the quantiles of a histogram.
func (f flow) timedBy(d *differences, name string, chosen match, note string) flow {
	var grown histogram
	d.each(func(now, before metrics, _ float64) {
		grown = grown.plus(now.histogram(name, chosen).since(before.histogram(name, chosen)))
	})
	f.timed, f.p50, f.p99, f.note = true, grown.quantile(0.50), grown.quantile(0.99), note
	return f
}

// sharedBy names the values of a label that make up most of the flow.
func (f flow) sharedBy(d *differences, name, label string) flow {
	type share struct {
		value string
		rate  float64
	}
	values := make(map[string]bool)
	for _, process := range d.now {
		for _, s := range process.metrics[name] {
			values[s.labels[label]] = true
		}
	}
	var shares []share
	for value := range values {
		if rate := d.rate(name, having(label, value)); rate > 0 {
			shares = append(shares, share{value, rate})
		}
	}
	slices.SortFunc(shares, func(a, b share) int { return cmp.Or(cmp.Compare(b.rate, a.rate), cmp.Compare(a.value, b.value)) })
	var words []string
	for _, s := range shares[:min(len(shares), notedShares)] {
		words = append(words, fmt.Sprintf("%s %s", s.value, number(s.rate)))
	}
	f.note = strings.Join(words, ", ")
	return f
}
