package top

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
)

// options are those of a view on a Redis.
func options(t *testing.T, client redis.UniversalClient) Options {
	t.Helper()
	store, err := redisstore.New(redisstore.Options{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	queues, err := queue.NewCollector(queue.Options{Client: client, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Store: store, Queues: queues, Interval: MinInterval}
}

// process is an admin listener with metrics of a gateway and a sender, which a
// test sets.
type process struct {
	address  string
	started  prometheus.Gauge
	accepted prometheus.Counter
	failures *prometheus.CounterVec
	latency  prometheus.Histogram
	requests *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newProcess(t *testing.T, handlers map[string]http.HandlerFunc) *process {
	t.Helper()
	p := &process{
		started:  prometheus.NewGauge(prometheus.GaugeOpts{Name: startTime}),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Name: eventsAccepted}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: attemptFailures}, []string{"reason"}),
		latency:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: deliveryLatency, Buckets: []float64{0.1, 0.2, 0.4}}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: requestDuration, Buckets: []float64{0.1, 0.2}}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: inFlight}),
	}
	p.started.Set(1)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p.started, p.accepted, p.failures, p.latency, p.requests, p.inFlight)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	for pattern, handler := range handlers {
		mux.HandleFunc(pattern, handler)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p.address = strings.TrimPrefix(server.URL, "http://")
	return p
}

// newView returns a view of processes, each of them gateway and sender.
func newView(t *testing.T, processes ...*process) *view {
	t.Helper()
	v := &view{o: options(t, shared.Database(t).Client(t)), client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(v.client.CloseIdleConnections)
	for _, p := range processes {
		v.addresses = append(v.addresses, p.address)
	}
	v.o.Gateways, v.o.Senders = v.addresses, v.addresses
	return v
}

// later looks around and says that it was some seconds after another look.
func (v *view) later(t *testing.T, than look, seconds int) look {
	t.Helper()
	l := v.lookAround(t.Context())
	for address, s := range l.processes {
		s.at = than.processes[address].at.Add(time.Duration(seconds) * time.Second)
		l.processes[address] = s
	}
	return l
}

func (s *snapshot) flow(t *testing.T, name string) flow {
	t.Helper()
	for _, f := range s.flows {
		if f.name == name {
			return f
		}
	}
	t.Fatalf("no flow %q", name)
	return flow{}
}
