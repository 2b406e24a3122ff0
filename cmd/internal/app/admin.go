package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sealpost/sealpost/core"
)

// readyTimeout bounds one answer of /readyz.
const readyTimeout = 2 * time.Second

// admin is the operators' listener: /metrics, /healthz, /readyz, /debug/pprof/,
// and /top where a sender runs. It is never public.
type admin struct {
	listener net.Listener
	server   *http.Server
	mux      *http.ServeMux
	log      *slog.Logger
	draining atomic.Bool
	checks   []readyCheck
}

// readyCheck is one condition for being ready.
type readyCheck struct {
	name  string
	check func(context.Context) error
}

// bind listens on the address of a setting.
func bind(variable, address string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, badSetting(variable, fmt.Sprintf("%q is not an address like :8080 or 127.0.0.1:8080", address))
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return listener, nil
}

// newAdmin binds the listener.
func newAdmin(address string, registry *prometheus.Registry, log *slog.Logger, checks ...readyCheck) (*admin, error) {
	listener, err := bind("SEALPOST_ADMIN_LISTEN", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	a := &admin{listener: listener, mux: mux, log: log, checks: checks}
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry:            registry,
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	// No cmdline: a master key may be given as a flag.
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	return a, nil
}

// run serves until ctx ends.
func (a *admin) run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- a.server.Serve(a.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := a.server.Shutdown(bounded); err != nil {
		a.server.Close() // a profile still being taken must not hold the process
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// drain makes /readyz answer 503 from now on.
func (a *admin) drain() { a.draining.Store(true) }

// ready answers whether this process should get work, with a word on each
// check. What failed is logged, and told here too: the listener is the
// operators' own.
func (a *admin) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	answer := struct {
		Status string            `json:"status"`
		Checks map[string]string `json:"checks"`
	}{Status: "ready", Checks: make(map[string]string)}
	if a.draining.Load() {
		answer.Status = "draining"
	}
	for _, c := range a.checks {
		answer.Checks[c.name] = "ok"
		if err := c.check(ctx); err != nil {
			answer.Status, answer.Checks[c.name] = "not ready", err.Error()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if answer.Status != "ready" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		a.log.Debug("readyz answer not written", "err", err)
	}
}

// newRegistry returns a registry with the process's and the runtime's metrics.
func newRegistry(role string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sealpost_build_info",
		Help: "Always 1; the labels tell version and role.",
	}, []string{"version", "role"})
	info.WithLabelValues(core.Version, role).Set(1)
	registry.MustRegister(info, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		// How long goroutines wait for a core is what tells a machine that is too small.
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/sched/latencies:seconds$`)})))
	return registry
}
