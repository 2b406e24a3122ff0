package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
)

// scrapeTimeout bounds the reading of the backlogs for one scrape.
const scrapeTimeout = time.Second

// stateUnknown counts the endpoints with a condition where they are too many to be
// told apart.
const stateUnknown = "unknown"

// backlogStates lists the states that a condition has.
func backlogStates() []core.State {
	return []core.State{core.StateSlow, core.StateThrottled, core.StatePaused, core.StateFailing, core.StateCatchingUp}
}

// BacklogCollector is a prometheus.Collector of how much waits in the backlogs of
// endpoints, and of the endpoints that are not simply active. It asks Redis once
// when it is scraped; when that fails, its metrics are missing from the scrape.
type BacklogCollector struct {
	s          *Store
	endpoints  *prometheus.Desc
	deliveries *prometheus.Desc
	bytes      *prometheus.Desc
	overdue    *prometheus.Desc
	states     *prometheus.Desc

	mu     sync.Mutex // one reader at a time, whoever scrapes
	failed bool       // the last scrape; to log a failure once
}

var _ prometheus.Collector = (*BacklogCollector)(nil)

// NewBacklogCollector returns a BacklogCollector of what s holds.
func NewBacklogCollector(s *Store) *BacklogCollector {
	return &BacklogCollector{
		s:          s,
		endpoints:  prometheus.NewDesc("sealpost_backlog_endpoints", "Endpoints with a backlog: deliveries that wait because nothing can or may be sent at once.", nil, nil),
		deliveries: prometheus.NewDesc("sealpost_backlog_deliveries", "Deliveries that wait in the backlogs of all endpoints.", nil, nil),
		bytes:      prometheus.NewDesc("sealpost_backlog_bytes", "Size of the deliveries in all backlogs as they are stored.", nil, nil),
		overdue:    prometheus.NewDesc("sealpost_backlog_overdue_seconds", "How long the backlog that is due first has been waiting for a sender to look at it; up to some seconds are normal.", nil, nil),
		states:     prometheus.NewDesc("sealpost_endpoint_states", "Endpoints that are not simply active, by state. Where they are too many to be told apart, all are unknown.", []string{"state"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *BacklogCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.endpoints
	descs <- c.deliveries
	descs <- c.bytes
	descs <- c.overdue
	descs <- c.states
}

// Collect implements prometheus.Collector.
func (c *BacklogCollector) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	v, err := c.s.BacklogOverview(ctx)
	c.report(err)
	if err != nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(c.endpoints, float64(v.Endpoints))
	gauge(c.deliveries, float64(v.Deliveries))
	gauge(c.bytes, float64(v.Bytes))
	gauge(c.overdue, v.Overdue.Seconds())
	if v.Conditions > 0 && len(v.ByState) == 0 {
		gauge(c.states, float64(v.Conditions), stateUnknown)
		return
	}
	gauge(c.states, 0, stateUnknown)
	for _, state := range backlogStates() {
		gauge(c.states, float64(v.ByState[state]), string(state))
	}
}

// report logs when the reading begins to fail and when it works again.
func (c *BacklogCollector) report(err error) {
	switch {
	case err != nil && !c.failed:
		c.s.log.Warn("backlogs could not be read for metrics", "error", err)
	case err == nil && c.failed:
		c.s.log.Info("backlogs are read for metrics again")
	}
	c.failed = err != nil
}
