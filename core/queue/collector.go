package queue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scrapeTimeout bounds the reading of the queues for one scrape; the client's
// own timeouts do where it does not watch contexts.
const scrapeTimeout = time.Second

// Collector is a prometheus.Collector of what stands in the queues. It reads
// Redis when it is scraped; when that fails, its metrics are missing from the
// scrape.
type Collector struct {
	o          Options
	tasks      *prometheus.Desc
	oldest     *prometheus.Desc
	overdue    *prometheus.Desc
	leases     *prometheus.Desc
	consumers  *prometheus.Desc
	clockAhead *prometheus.Desc

	mu     sync.Mutex // one reader at a time, whoever scrapes
	failed bool       // the last scrape; to log a failure once
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns a Collector and registers it with o.Registerer, if there
// is one.
func NewCollector(o Options) (*Collector, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	c := &Collector{
		o:          o,
		tasks:      prometheus.NewDesc("sealpost_queue_tasks", "Tasks in a queue. Any in the state archived is an alarm.", []string{"queue", "state"}, nil),
		oldest:     prometheus.NewDesc("sealpost_queue_oldest_pending_seconds", "How long the oldest task that can run has been waiting.", []string{"queue"}, nil),
		overdue:    prometheus.NewDesc("sealpost_queue_overdue_seconds", "How long the oldest task whose time has come has been waiting to be taken up; up to some seconds are normal.", []string{"queue"}, nil),
		leases:     prometheus.NewDesc("sealpost_queue_lease_expired_seconds", "How long the oldest running task has been without a lease: its sender is gone, and another one takes it over within some seconds.", []string{"queue"}, nil),
		consumers:  prometheus.NewDesc("sealpost_queue_consumers", "Consumers with a fresh heartbeat; each sender runs one for each queue.", nil, nil),
		clockAhead: prometheus.NewDesc("sealpost_redis_clock_ahead_seconds", "This machine's clock minus that of Redis. Beyond 25 s between senders, running tasks are taken from each other.", nil, nil),
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Stats returns what stands in each queue: the deliver queues in order, then the
// retry queue and the bulk queue.
func (c *Collector) Stats(ctx context.Context) ([]QueueStats, error) {
	v, err := readOverview(ctx, &c.o)
	if err != nil {
		return nil, err
	}
	return v.queues, nil
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.tasks
	descs <- c.oldest
	descs <- c.overdue
	descs <- c.leases
	descs <- c.consumers
	descs <- c.clockAhead
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	v, err := readOverview(ctx, &c.o)
	c.report(err)
	if err != nil {
		return
	}
	metrics <- prometheus.MustNewConstMetric(c.clockAhead, prometheus.GaugeValue, v.clockAhead.Seconds())
	metrics <- prometheus.MustNewConstMetric(c.consumers, prometheus.GaugeValue, float64(v.consumers))
	for i := range v.queues {
		s := &v.queues[i]
		for _, state := range s.states() {
			metrics <- prometheus.MustNewConstMetric(c.tasks, prometheus.GaugeValue, float64(state.tasks), s.Queue, state.name)
		}
		metrics <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, s.OldestPending.Seconds(), s.Queue)
		metrics <- prometheus.MustNewConstMetric(c.overdue, prometheus.GaugeValue, s.Overdue.Seconds(), s.Queue)
		metrics <- prometheus.MustNewConstMetric(c.leases, prometheus.GaugeValue, s.LeaseExpired.Seconds(), s.Queue)
	}
}

// report logs when the reading begins to fail and when it works again.
func (c *Collector) report(err error) {
	switch {
	case err != nil && !c.failed:
		c.o.Logger.Warn("queues could not be read for metrics", "error", err)
	case err == nil && c.failed:
		c.o.Logger.Log(context.Background(), slog.LevelInfo, "queues are read for metrics again")
	}
	c.failed = err != nil
}
