package redisstore

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// op names what was asked of Redis; the values of the label `op`.
type op string

const (
	opCreateEndpoint  op = "create_endpoint"
	opReadEndpoint    op = "read_endpoint"
	opListEndpoints   op = "list_endpoints"
	opUpdateEndpoint  op = "update_endpoint"
	opDeleteEndpoint  op = "delete_endpoint"
	opForgetEndpoint  op = "forget_endpoint"
	opReadRecords     op = "read_records"
	opRecordAttempts  op = "record_attempts"
	opReadAttempts    op = "read_attempts"
	opAddDeadLetters  op = "add_dead_letters"
	opReadDeadLetters op = "read_dead_letters"
	opBegin           op = "begin"
	opFinish          op = "finish"
	opRelease         op = "release"
	opCreateAPIKey    op = "create_api_key"
	opReadAPIKey      op = "read_api_key"
	opListAPIKeys     op = "list_api_keys"
	opRevokeAPIKey    op = "revoke_api_key"
	opCheck           op = "check"
	opReadMemory      op = "read_memory"
)

func ops() []op {
	return []op{
		opCreateEndpoint, opReadEndpoint, opListEndpoints, opUpdateEndpoint, opDeleteEndpoint,
		opForgetEndpoint, opReadRecords, opRecordAttempts, opReadAttempts, opAddDeadLetters,
		opReadDeadLetters, opBegin, opFinish, opRelease, opCreateAPIKey, opReadAPIKey,
		opListAPIKeys, opRevokeAPIKey, opCheck, opReadMemory,
	}
}

type metrics struct {
	errors     *prometheus.CounterVec
	trimmed    *prometheus.CounterVec
	memoryUsed prometheus.Gauge
	memoryMax  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealpost_redis_errors_total",
			Help: "Operations of the store that Redis did not confirm.",
		}, []string{"op"}),
		trimmed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealpost_dead_letters_trimmed_total",
			Help: "Dead letters that were dropped to keep an endpoint within a bound.",
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
		err := errors.Join(register(r, &m.errors), register(r, &m.trimmed), register(r, &m.memoryUsed), register(r, &m.memoryMax))
		if err != nil {
			return nil, err
		}
	}
	for _, o := range ops() {
		m.errors.WithLabelValues(string(o))
	}
	for _, b := range deadBounds() {
		m.trimmed.WithLabelValues(b)
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

func (m *metrics) failed(o op) { m.errors.WithLabelValues(string(o)).Inc() }
