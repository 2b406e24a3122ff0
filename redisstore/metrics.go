package redisstore

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core/metric"
)

// op names what was asked of Redis; the values of the label `op`.
type op string

const (
	opCreateEndpoint    op = "create_endpoint"
	opReadEndpoint      op = "read_endpoint"
	opListEndpoints     op = "list_endpoints"
	opUpdateEndpoint    op = "update_endpoint"
	opDeleteEndpoint    op = "delete_endpoint"
	opForgetEndpoint    op = "forget_endpoint"
	opReadRecords       op = "read_records"
	opRecordAttempts    op = "record_attempts"
	opReadAttempts      op = "read_attempts"
	opAddDeadLetters    op = "add_dead_letters"
	opReadDeadLetters   op = "read_dead_letters"
	opRemoveDeadLetters op = "remove_dead_letters"
	opReadKept          op = "read_kept"
	opRecover           op = "recover"
	opAllowTest         op = "allow_test"
	opReadTrails        op = "read_trails"
	opAllowTrail        op = "allow_trail"
	opBegin             op = "begin"
	opFinish            op = "finish"
	opRelease           op = "release"
	opCreateAPIKey      op = "create_api_key"
	opReadAPIKey        op = "read_api_key"
	opListAPIKeys       op = "list_api_keys"
	opRevokeAPIKey      op = "revoke_api_key"
	opCheck             op = "check"
	opReadMemory        op = "read_memory"
	opAnnounce          op = "announce"
	opReadProcesses     op = "read_processes"
	opInspect           op = "inspect"
	opPark              op = "park"
	opClaim             op = "claim_backlogs"
	opAwait             op = "await_backlogs"
	opHoldClaim         op = "hold_claim"
	opReleaseClaim      op = "release_claim"
	opReadBacklog       op = "read_backlog"
	opReadBacklogs      op = "read_backlogs"
	opReadStandings     op = "read_standings"
	opLookAt            op = "look_at"
	opNoteRecovered     op = "note_recovered"
	opRaiseWarning      op = "raise_warning"

	// Round trips of clients that are not the store's, see Instrument.
	opEnqueue op = "enqueue"
	opQueue   op = "queue"
)

func ops() []op {
	return []op{
		opCreateEndpoint, opReadEndpoint, opListEndpoints, opUpdateEndpoint, opDeleteEndpoint,
		opForgetEndpoint, opReadRecords, opRecordAttempts, opReadAttempts, opAddDeadLetters,
		opReadDeadLetters, opRemoveDeadLetters, opReadKept, opRecover, opAllowTest, opReadTrails, opAllowTrail, opBegin, opFinish, opRelease, opCreateAPIKey, opReadAPIKey,
		opListAPIKeys, opRevokeAPIKey, opCheck, opReadMemory, opAnnounce, opReadProcesses, opInspect,
		opPark, opClaim, opAwait, opHoldClaim, opReleaseClaim, opReadBacklog, opReadBacklogs, opReadStandings,
		opLookAt, opNoteRecovered, opRaiseWarning,
		opEnqueue, opQueue,
	}
}

// metrics holds the children of every operation, made beforehand: counting costs
// no lookup by text.
type metrics struct {
	errors            map[op]prometheus.Counter
	durations         map[op]prometheus.Observer
	trimmed           *prometheus.CounterVec
	unkept            *prometheus.CounterVec
	replayed, cleared prometheus.Counter
	memoryUsed        prometheus.Gauge
	memoryMax         prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealpost_redis_errors_total",
		Help: "Operations that Redis did not confirm; enqueue and queue are the round trips of producers and of asynq's servers.",
	}, []string{"op"})
	durations := prometheus.NewHistogramVec(metric.Histogram(r, prometheus.HistogramOpts{
		Name:    "sealpost_redis_operation_duration_seconds",
		Help:    "Duration of operations of Redis, with the wait for a connection, by operation as in sealpost_redis_errors_total.",
		Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .1, .5, 2},
	}), []string{"op"})
	removed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealpost_dead_letters_removed_total",
		Help: "Dead letters that left their list because they were replayed (replay) or because the API was asked to remove them (delete).",
	}, []string{"by"})
	m := &metrics{
		trimmed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealpost_dead_letters_trimmed_total",
			Help: "Dead letters that were dropped to keep an endpoint within a bound.",
		}, []string{"bound"}),
		unkept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealpost_payloads_dropped_total",
			Help: "Delivered deliveries that cannot be replayed as long as SEALPOST_PAYLOAD_RETENTION says, to keep an endpoint within a bound (count, bytes) or because Redis was nearly full (full).",
		}, []string{"bound"}),
		memoryUsed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sealpost_redis_memory_used_bytes",
			Help: "Memory in use that counts against the limit, of the fullest Redis master.",
		}),
		memoryMax: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sealpost_redis_memory_max_bytes",
			Help: "The limit of the fullest Redis master: its maxmemory, or the memory of its machine if that is not set; 0: unknown.",
		}),
	}
	if r != nil {
		// Two stores of one process share their metrics.
		err := errors.Join(register(r, &failures), register(r, &durations), register(r, &m.trimmed), register(r, &m.unkept), register(r, &removed), register(r, &m.memoryUsed), register(r, &m.memoryMax))
		if err != nil {
			return nil, err
		}
	}
	m.errors, m.durations = make(map[op]prometheus.Counter), make(map[op]prometheus.Observer)
	for _, o := range ops() {
		m.errors[o], m.durations[o] = failures.WithLabelValues(string(o)), durations.WithLabelValues(string(o))
	}
	m.replayed, m.cleared = removed.WithLabelValues("replay"), removed.WithLabelValues("delete")
	for _, b := range deadBounds() {
		m.trimmed.WithLabelValues(b)
	}
	for _, b := range keptBounds() {
		m.unkept.WithLabelValues(b)
	}
	return m, nil
}

// register registers *c, or sets it to the equal collector that r has already.
func register[C prometheus.Collector](r prometheus.Registerer, c *C) error {
	err := r.Register(*c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			*c = existing
			return nil
		}
	}
	return err
}

func (m *metrics) failed(o op) { m.errors[o].Inc() }

// took notes how long an operation took that began at start; to be deferred.
func (m *metrics) took(o op, start time.Time) { m.durations[o].Observe(time.Since(start).Seconds()) }
