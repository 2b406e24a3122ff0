package gateway

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/metric"
)

// tally is what is counted per operation, with all label values made in
// advance: a request looks up nothing but a small map.
type tally struct {
	requests map[int]prometheus.Counter // by HTTP status; read-only
	duration prometheus.Observer
}

type metrics struct {
	requests     *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	unmatched    *tally
	refusedConns prometheus.Counter
	keys         keyTally
	announced    announceTally
}

// announceTally counts announcements.
type announceTally struct{ stored, failed prometheus.Counter }

func (t *announceTally) count(err error) {
	if err == nil {
		t.stored.Inc()
	} else {
		t.failed.Inc()
	}
}

// keyTally counts look-ups of API keys by where the answer came from.
type keyTally struct{ hits, misses prometheus.Counter }

func newMetrics(r prometheus.Registerer, s *Server) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealpost_gateway_requests_total",
			Help: "API requests, by route and HTTP status.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(metric.Histogram(r, prometheus.HistogramOpts{
			Name:    "sealpost_gateway_request_duration_seconds",
			Help:    "Time from a request's head to its answer.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5},
		}), []string{"route"}),
		refusedConns: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealpost_gateway_connections_refused_total",
			Help: "Connections refused because too many were open.",
		}),
	}
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealpost_gateway_key_lookups_total",
		Help: "Look-ups of well-formed API keys, by whether this process knew the answer (hit) or waited for Redis (miss).",
	}, []string{"result"})
	m.keys = keyTally{hits: lookups.WithLabelValues("hit"), misses: lookups.WithLabelValues("miss")}
	announced := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealpost_gateway_announcements_total",
		Help: "Changes of endpoints announced to the endpoints that subscribe to such events, by whether the announcement was stored (stored) or is not confirmed (failed).",
	}, []string{"result"})
	m.announced = announceTally{stored: announced.WithLabelValues("stored"), failed: announced.WithLabelValues("failed")}
	m.unmatched = m.tally(unmatched)
	for _, r := range s.routes {
		for _, o := range r.operations {
			o.tally = m.tally(o.name)
		}
	}
	if r == nil {
		return m, nil
	}
	conns := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sealpost_gateway_open_connections",
		Help: "Open API connections.",
	}, func() float64 { return float64(s.openConns()) })
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sealpost_gateway_body_bytes",
		Help: "Bytes of request bodies held at the moment.",
	}, func() float64 { return float64(s.bodies.held.Load()) })
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.refusedConns, lookups, announced, conns, held} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("gateway: register metrics: %w", err)
		}
	}
	return m, nil
}

// tally makes the counters of one route for every status that can be answered.
func (m *metrics) tally(route string) *tally {
	t := &tally{requests: make(map[int]prometheus.Counter), duration: m.duration.WithLabelValues(route)}
	statuses := []int{200, 201, 202}
	for _, code := range core.Codes() {
		status, _, _ := statusOf(code)
		statuses = append(statuses, status)
	}
	for _, status := range statuses {
		t.requests[status] = m.requests.WithLabelValues(route, strconv.Itoa(status))
	}
	return t
}

// observe counts an answered exchange.
func (m *metrics) observe(x *exchange, took time.Duration) {
	t := m.unmatched
	if x.operation != nil {
		t = x.operation.tally
	}
	if c, ok := t.requests[x.ctx.Response.StatusCode()]; ok {
		c.Inc()
	}
	x.observe(t.duration, took.Seconds())
}

// count counts a look-up whose caller waited so long for the store; 0: it knew.
func (t *keyTally) count(wait time.Duration) {
	if wait == 0 {
		t.hits.Inc()
	} else {
		t.misses.Inc()
	}
}
