package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// spareWorkers is how many connections fasthttp may serve beyond MaxConns. It
// counts a connection until its goroutine is idle again, the listener only
// until it is closed; within this slack ours is the limit that refuses.
const spareWorkers = 256

// closeGrace is what handlers get to notice that their connections have been
// closed under them.
const closeGrace = time.Second

// Server is the HTTP API. Make one with New, which binds the address, and serve
// with Run.
type Server struct {
	o         Options
	http      *fasthttp.Server
	listener  net.Listener
	metrics   *metrics
	routes    []*route
	keys      *keyCache
	bodies    bodyBudget
	rules     eventRules
	catalogue core.EventTypes // that may be subscribed to
	policy    string          // the RateLimit-Policy header; "": there is no quota
	exchanges sync.Pool       // of *exchange
	complaint complaintLimit
	trails    chan struct{} // a semaphore of maxTrails
	large     largeBodies

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// New returns a Server that is bound to its address but does not serve yet.
func New(o Options) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		o:         o,
		keys:      newKeyCache(o.Keys, o.Now),
		bodies:    bodyBudget{max: o.MaxBodyBytes},
		rules:     eventRules{types: make(map[string]string, len(o.EventTypes)), maxPayload: o.MaxPayload},
		catalogue: o.EventTypes.WithSystem(),
		policy:    quotaPolicy(o.Quota),
		conns:     make(map[net.Conn]struct{}),
		trails:    make(chan struct{}, maxTrails),
		large:     newLargeBodies(),
	}
	for _, t := range o.EventTypes {
		s.rules.types[t] = t
	}
	s.exchanges.New = func() any { return new(exchange) }
	s.routes = s.table()
	s.http = &fasthttp.Server{
		Handler:                      s.handle,
		ErrorHandler:                 s.protocolError,
		ConnState:                    s.track,
		Concurrency:                  o.MaxConns + spareWorkers,
		ReadBufferSize:               maxHead,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxRequestBodySize:           maxBatchBody, // routes have their own; bodies are streamed
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		Logger:                       httpLogger{o.Logger},
	}
	var err error
	if s.metrics, err = newMetrics(o.Registerer, s); err != nil {
		return nil, err
	}
	inner := o.Listener
	if inner == nil {
		if inner, err = net.Listen("tcp", o.Listen); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	s.listener = &limitListener{Listener: inner, server: s}
	return s, nil
}

// Addr returns the address that the server is bound to.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends. Then it takes no more connections, lets requests
// in flight finish for at most Options.ShutdownTimeout, and closes what is left;
// that is an error.
//
//	listener ──▶ limitListener ──▶ fasthttp ──▶ handle ──▶ serve: route, key, scope
//	             503 beyond MaxConns            recover,    │
//	                                            metrics     ├─▶ management ──▶ Store
//	                                                        └─▶ events ──────▶ Publisher
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("gateway: listener: %w", err), s.stop())
	case <-ctx.Done():
	}
	err := s.stop()
	return errors.Join(err, <-served)
}

// stop ends the server in order: listener, idle connections, requests.
func (s *Server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.o.ShutdownTimeout)
	defer cancel()
	if err := s.http.ShutdownWithContext(ctx); err == nil {
		return nil
	}
	n := s.closeConns()
	ctx, cancel = context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	err := s.http.ShutdownWithContext(ctx)
	if errors.Is(err, net.ErrClosed) {
		err = nil // the listener, which the first attempt has closed
	}
	return errors.Join(fmt.Errorf("gateway: %d connections were still open after %v and have been closed", n, s.o.ShutdownTimeout), err)
}

// track keeps the set of open connections, for closeConns.
func (s *Server) track(c net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}
}

func (s *Server) openConns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) closeConns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close() // its goroutine reports what matters
	}
	return len(s.conns)
}

// httpLogger receives what fasthttp has to say about single connections.
type httpLogger struct{ log *slog.Logger }

func (l httpLogger) Printf(format string, args ...any) {
	l.log.Debug("http server", "message", fmt.Sprintf(format, args...))
}
