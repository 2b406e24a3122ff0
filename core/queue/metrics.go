package queue

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core/metric"
)

// producerMetrics count what producers store.
type producerMetrics struct {
	bundles     prometheus.Counter
	deliveries  prometheus.Histogram
	stored      prometheus.Histogram
	encoded     prometheus.Counter
	resends     prometheus.Counter
	unconfirmed prometheus.Counter
}

func newProducerMetrics(r prometheus.Registerer) (*producerMetrics, error) {
	var m producerMetrics
	var err error
	m.bundles, err = register(r, err, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sealpost_queue_bundles_stored_total", Help: "Bundles stored in Redis, retries included.",
	}))
	m.deliveries, err = register(r, err, prometheus.NewHistogram(metric.Histogram(r, prometheus.HistogramOpts{
		Name: "sealpost_queue_bundle_deliveries", Help: "Deliveries in a bundle when it was stored.",
		Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, maxBundleDeliveries + maxBundleRest},
	})))
	m.stored, err = register(r, err, prometheus.NewHistogram(metric.Histogram(r, prometheus.HistogramOpts{
		Name: "sealpost_queue_bundle_bytes", Help: "Size of a bundle as it was stored, compressed where that pays.",
		Buckets: prometheus.ExponentialBuckets(256, 4, 9), // to 16 MiB, the largest bundle
	})))
	m.encoded, err = register(r, err, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sealpost_queue_bundle_uncompressed_bytes_total", Help: "Size of the stored bundles before compression.",
	}))
	m.resends, err = register(r, err, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sealpost_queue_resends_total", Help: "Bundles sent to Redis once more because no confirmation came.",
	}))
	m.unconfirmed, err = register(r, err, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sealpost_queue_unconfirmed_total", Help: "Bundles whose storing was given up without confirmation.",
	}))
	return &m, err
}

// putBackReason says why a task went back to its queue; a metric label.
type putBackReason string

const (
	putBackHandler     putBackReason = "handler"     // the handler returned an error
	putBackPanic       putBackReason = "panic"       // the handler panicked
	putBackRedis       putBackReason = "redis"       // the bundle could not be read
	putBackUndecodable putBackReason = "undecodable" // the bundle was read but not understood
	putBackEarly       putBackReason = "early"       // not due yet
	putBackStopping    putBackReason = "stopping"    // the consumer was stopping
	putBackLease       putBackReason = "lease_lost"  // asynq's lease ended before the handler did
	putBackTimeout     putBackReason = "timeout"     // the task's timeout ended before the handler did
)

func putBackReasons() []putBackReason {
	return []putBackReason{
		putBackHandler, putBackPanic, putBackRedis, putBackUndecodable,
		putBackEarly, putBackStopping, putBackLease, putBackTimeout,
	}
}

// repair is what the reconciler mended; a metric label.
type repair string

const (
	repairLease repair = "lease" // a running task without lease got one, so that it is recovered
	repairGhost repair = "ghost" // a task whose data is gone was removed
)

// consumerMetrics count what consumers meet.
type consumerMetrics struct {
	lost        prometheus.Counter
	undecodable prometheus.Counter
	settled     prometheus.Counter
	takenOver   prometheus.Counter
	putBack     map[putBackReason]prometheus.Counter
	repairs     map[repair]prometheus.Counter
}

func newConsumerMetrics(r prometheus.Registerer) (*consumerMetrics, error) {
	m := &consumerMetrics{putBack: map[putBackReason]prometheus.Counter{}, repairs: map[repair]prometheus.Counter{}}
	var err error
	m.lost, err = register(r, err, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sealpost_bundles_lost_total", Help: "Tasks whose bundle was gone from Redis before it was settled: always an alarm.",
	}))
	m.undecodable, err = register(r, err, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sealpost_bundles_undecodable_total", Help: "Runs of bundles that this version cannot read; they are put back.",
	}))
	m.settled, err = register(r, err, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sealpost_bundles_already_settled_total", Help: "Runs of bundles that an earlier run had settled.",
	}))
	m.takenOver, err = register(r, err, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sealpost_queue_takeovers_total", Help: "Running bundles of senders that were killed or cut off from Redis, made to run again.",
	}))
	putBack, err := register(r, err, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealpost_bundles_put_back_total", Help: "Runs of bundles that ended with the bundle back in its queue.",
	}, []string{"reason"}))
	repairs, err := register(r, err, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealpost_queue_repairs_total", Help: "Tasks in a state that asynq does not recover by itself, mended.",
	}, []string{"kind"}))
	if err != nil {
		return nil, err
	}
	for _, reason := range putBackReasons() {
		m.putBack[reason] = putBack.WithLabelValues(string(reason))
	}
	for _, kind := range []repair{repairLease, repairGhost} {
		m.repairs[kind] = repairs.WithLabelValues(string(kind))
	}
	return m, nil
}

// register registers c with r, unless r is nil or an earlier step failed. Several
// producers of one process count together: what r knows already is used.
func register[C prometheus.Collector](r prometheus.Registerer, failed error, c C) (C, error) {
	if failed != nil || r == nil {
		return c, failed
	}
	err := r.Register(c)
	var known prometheus.AlreadyRegisteredError
	if errors.As(err, &known) {
		if same, ok := known.ExistingCollector.(C); ok {
			return same, nil
		}
	}
	return c, err
}
