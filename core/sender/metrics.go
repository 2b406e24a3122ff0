package sender

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/metric"
)

// metrics holds the children of every label value, made beforehand: a series is
// there before its first event, and counting costs no lookup by text.
type metrics struct {
	attempts         map[core.Outcome]prometheus.Counter
	failures         map[core.Reason]prometheus.Counter
	attemptDuration  prometheus.Histogram
	phases           phases
	lag              lag
	latency          prometheus.Histogram
	attemptsNeeded   prometheus.Histogram
	retries          prometheus.Counter
	deliveries       map[core.Status]prometheus.Counter
	deadLetters      map[core.Reason]prometheus.Counter
	keyMismatches    prometheus.Counter
	deferred         prometheus.Counter
	settleRepeats    prometheus.Counter
	endpointsStopped prometheus.Counter
	conditions       map[core.State]prometheus.Counter
	parked           prometheus.Counter
	probes           prometheus.Counter
	drains           prometheus.Gauge
	warnings         prometheus.Counter
	unannounced      prometheus.Counter
}

// phases are the parts of an attempt that happened.
type phases struct{ dns, connect, tls, firstByte prometheus.Observer }

// lag is how late attempts begin.
type lag struct{ first, retry prometheus.Observer }

// attemptBuckets are those of an attempt and of its parts, in seconds.
func attemptBuckets() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60}
}

// newMetrics registers the metrics with r. concurrency is the number of attempts
// that may be in flight, inFlight returns how many are.
func newMetrics(r prometheus.Registerer, concurrency int, inFlight, overtime func() float64) (*metrics, error) {
	reg := &registrar{r: r}
	m := &metrics{
		attempts: counters(reg, "sealpost_sender_attempts_total",
			"Delivery attempts by what they meant; hold and discard made no request.", "outcome", core.Outcomes()),
		failures: counters(reg, "sealpost_sender_attempt_failures_total",
			"Attempts that failed, and deliveries that could not be attempted, by reason.", "reason", core.Reasons()),
		deliveries: counters(reg, "sealpost_sender_deliveries_total",
			"Deliveries that ended, by status.", "status",
			[]core.Status{core.StatusDelivered, core.StatusFailed, core.StatusDiscarded}),
		deadLetters: counters(reg, "sealpost_dead_letters_total",
			"Deliveries given up and kept as dead letters, by reason.", "reason", core.Reasons()),
		attemptDuration: reg.histogram("sealpost_sender_attempt_duration_seconds",
			"Duration of attempts, from DNS to the end of the response.", attemptBuckets()...),
		attemptsNeeded: reg.histogram("sealpost_sender_delivery_attempts",
			"Attempts that a delivery took until it was delivered.", 1, 2, 3, 4, 6, 8, 12, 16),
		retries: reg.counter("sealpost_sender_retries_total",
			"Failed deliveries that were stored for a further attempt."),
		latency: reg.histogram("sealpost_sender_delivery_latency_seconds",
			"Time from the acceptance of an event to its delivery, waits for retries included.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200, 259200),
		keyMismatches: reg.counter("sealpost_sender_key_mismatches_total",
			"Deliveries held because the master keys do not yield the endpoint's signing secret."),
		deferred: reg.counter("sealpost_sender_deferred_total",
			"Deliveries put back into the queue without an attempt, at shutdown, at the end of a bundle's time or when held."),
		settleRepeats: reg.counter("sealpost_sender_settle_repeats_total",
			"Writes of results that had to be repeated because Redis failed."),
		endpointsStopped: reg.counter("sealpost_sender_endpoints_disabled_total",
			"Endpoints disabled because they answered 410 or `webhook-delivery: disable`, or did nothing but fail for too long."),
		conditions: counters(reg, "sealpost_sender_endpoint_changes_total",
			"Endpoints that were found to be in a state, by state; active and disabled are counted elsewhere.", "state",
			[]core.State{core.StateSlow, core.StateThrottled, core.StatePaused, core.StateFailing, core.StateCatchingUp}),
		parked: reg.counter("sealpost_sender_parked_total",
			"Deliveries put into the backlogs of their endpoints instead of being sent, or stored for a retry."),
		probes: reg.counter("sealpost_sender_probes_total",
			"Attempts made to find out whether a failing endpoint works again."),
		warnings: reg.counter("sealpost_sender_endpoint_warnings_total",
			"Warnings that an endpoint does nothing but fail and is going to be disabled."),
		unannounced: reg.counter("sealpost_sender_announcements_failed_total",
			"System events about endpoints that could not be stored."),
		drains: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sealpost_sender_drains", Help: "Backlogs that are being worked off by this process.",
		}),
	}
	reg.add(m.drains)
	parts := reg.histograms("sealpost_sender_attempt_phase_duration_seconds",
		"Duration of the parts of attempts, of those that happened: a reused connection has only first_byte, which runs from the first byte of the request to the first of the response.",
		"phase", attemptBuckets()...)
	m.phases = phases{
		dns: parts.WithLabelValues("dns"), connect: parts.WithLabelValues("connect"),
		tls: parts.WithLabelValues("tls"), firstByte: parts.WithLabelValues("first_byte"),
	}
	late := reg.histograms("sealpost_sender_schedule_lag_seconds",
		"How long after its time an attempt began: the acceptance of the event for a first one, the due time for a retry.",
		"attempt", .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
	m.lag = lag{first: late.WithLabelValues("first"), retry: late.WithLabelValues("retry")}
	reg.add(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sealpost_sender_concurrency", Help: "Attempts that may be in flight.",
	}, func() float64 { return float64(concurrency) }))
	reg.add(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sealpost_sender_in_flight", Help: "Attempts in flight, but for those that take long or came out of backlogs.",
	}, inFlight))
	reg.add(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sealpost_sender_waiting_in_flight", Help: "Attempts in flight that take long, and attempts out of backlogs: they hold up no others.",
	}, overtime))
	return m, reg.err
}

// ended counts what a verdict means for its delivery, once that is stored.
func (m *metrics) ended(v *verdict) {
	if c := m.deliveries[v.status]; c != nil {
		c.Inc()
	}
	switch v.step {
	case stepDead:
		if c := m.deadLetters[v.deadReason()]; c != nil {
			c.Inc()
		}
	case stepRetry:
		m.retries.Inc()
	case stepDefer:
		m.deferred.Inc()
	case stepPark:
		m.parked.Inc()
	}
	if v.status == core.StatusDelivered {
		m.attemptsNeeded.Observe(float64(v.delivery.Attempts))
		observe(m.latency, v.row.EndedAt().Sub(v.delivery.CreatedAt()).Seconds(), v.delivery.Event.TraceContext())
	}
}

// attempted notes how long an attempt took, and its parts.
func (m *metrics) attempted(v *verdict, res *egress.Result) {
	observe(m.attemptDuration, v.row.Latency.Seconds(), v.delivery.Event.TraceContext())
	for _, part := range [...]struct {
		observer prometheus.Observer
		took     time.Duration
	}{{m.phases.dns, res.DNS}, {m.phases.connect, res.Connect}, {m.phases.tls, res.TLS}, {m.phases.firstByte, res.FirstByte}} {
		if part.took > 0 {
			part.observer.Observe(part.took.Seconds())
		}
	}
}

// started notes how late an attempt of d begins.
func (m *metrics) started(d *core.Delivery, began time.Time) {
	observer, due := m.lag.first, d.Event.AcceptedAt
	if d.Attempts > 0 {
		observer = m.lag.retry
	}
	if d.Due.After(due) {
		due = d.Due
	}
	observer.Observe(max(began.Sub(due), 0).Seconds())
}

// judged counts a verdict when it is made.
func (m *metrics) judged(v *verdict) {
	if c := m.attempts[v.outcome]; c != nil {
		c.Inc()
	}
	if c := m.failures[v.reason]; c != nil {
		c.Inc()
	}
}

// registrar registers collectors and keeps the first error.
type registrar struct {
	r   prometheus.Registerer
	err error
}

func (reg *registrar) add(c prometheus.Collector) {
	if err := reg.r.Register(c); err != nil && reg.err == nil {
		reg.err = err
	}
}

func (reg *registrar) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	reg.add(c)
	return c
}

func (reg *registrar) histogram(name, help string, buckets ...float64) prometheus.Histogram {
	h := prometheus.NewHistogram(metric.Histogram(reg.r, prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}))
	reg.add(h)
	return h
}

func (reg *registrar) histograms(name, help, label string, buckets ...float64) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(metric.Histogram(reg.r, prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}), []string{label})
	reg.add(h)
	return h
}

func counters[L ~string](reg *registrar, name, help, label string, values []L) map[L]prometheus.Counter {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	reg.add(vec)
	children := make(map[L]prometheus.Counter, len(values))
	for _, v := range values {
		children[v] = vec.WithLabelValues(string(v))
	}
	return children
}
