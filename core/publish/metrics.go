package publish

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/metric"
)

type metrics struct {
	accepted   prometheus.Counter
	repeated   prometheus.Counter
	deliveries prometheus.Counter
	parked     prometheus.Counter
	rejected   map[core.Code]prometheus.Counter // read-only after newMetrics
	events     prometheus.Histogram
	duration   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, c *collector, now func() time.Time) (*metrics, error) {
	m := &metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealpost_events_accepted_total",
			Help: "Events stored with all their deliveries.",
		}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealpost_events_repeated_total",
			Help: "Events answered with the first answer to their idempotency key.",
		}),
		deliveries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealpost_deliveries_accepted_total",
			Help: "Deliveries stored for accepted events.",
		}),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealpost_publish_parked_total",
			Help: "Deliveries of published events that went straight to their endpoint's backlog, because it has limits of its own or is disabled and holds them.",
		}),
		events: prometheus.NewHistogram(metric.Histogram(r, prometheus.HistogramOpts{
			Name:    "sealpost_flush_events",
			Help:    "Events committed by one flush.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		})),
		duration: prometheus.NewHistogram(metric.Histogram(r, prometheus.HistogramOpts{
			Name:    "sealpost_flush_duration_seconds",
			Help:    "Time one flush took.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5},
		})),
	}
	rejected := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealpost_events_rejected_total",
		Help: "Events refused or not confirmed, by error code.",
	}, []string{"code"})
	m.rejected = make(map[core.Code]prometheus.Counter)
	for _, code := range core.Codes() {
		m.rejected[code] = rejected.WithLabelValues(string(code))
	}
	pending := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sealpost_publish_pending_events",
		Help: "Events waiting to be stored or being stored.",
	}, func() float64 { events, _ := c.pending(); return float64(events) })
	above := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sealpost_publish_bulk_organizations",
		Help: "Organizations that publish more than their share: their deliveries go through the bulk queue.",
	}, func() float64 { return float64(c.above(now())) })
	if r == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.accepted, m.repeated, m.deliveries, m.parked, m.events, m.duration, rejected, pending, above} {
		if err := r.Register(collector); err != nil {
			return nil, fmt.Errorf("publish: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) reject(code core.Code, events int) {
	if c, ok := m.rejected[code]; ok {
		c.Add(float64(events))
	}
}

func (m *metrics) accept(events, deliveries, repeated int) {
	m.accepted.Add(float64(events))
	m.deliveries.Add(float64(deliveries))
	m.repeated.Add(float64(repeated))
}

func (m *metrics) flushed(events int, took time.Duration) {
	m.events.Observe(float64(events))
	m.duration.Observe(took.Seconds())
}
