package redistest

import (
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Option changes how a server is started.
type Option func(config []string) []string

// WithAppendOnly makes the server keep its data over Kill and Restart. fsync is
// `always`, `everysec` or `no`; without this option a restarted server is empty.
func WithAppendOnly(fsync string) Option {
	return func(config []string) []string {
		return append(config, "--appendonly", "yes", "--appendfsync", fsync)
	}
}

// WithConfig sets a directive of redis.conf.
func WithConfig(directive string, values ...string) Option {
	return func(config []string) []string {
		return append(append(config, "--"+directive), values...)
	}
}

func configOf(options []Option) []string {
	var config []string
	for _, o := range options {
		config = o(config)
	}
	return config
}

// Server is a redis-server that belongs to one test. Its methods may end the
// test, so they are for the test's own goroutine; URL, UnixURL, Addr and
// SocketPath are for any.
type Server struct {
	tb testing.TB
	p  *process
}

// Start runs a server until tb ends. It returns when the server answers. When
// tb fails, the end of the server's log is printed.
func Start(tb testing.TB, options ...Option) *Server {
	tb.Helper()
	p, err := launch(configOf(options))
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, p: p}
	tb.Cleanup(func() {
		log := p.log()
		if err := p.remove(); err != nil {
			tb.Errorf("remove the redis-server's files: %v", err)
		}
		if tb.Failed() {
			tb.Logf("log of the redis-server:\n%s", log)
		}
	})
	return s
}

// URL returns the address over TCP, `redis://127.0.0.1:<port>/0`.
func (s *Server) URL() string { return "redis://" + s.p.addr() + "/0" }

// UnixURL returns the address over the Unix socket, `unix://<path>?db=0`.
func (s *Server) UnixURL() string { return "unix://" + s.p.socket() + "?db=0" }

// Addr returns the loopback host and port.
func (s *Server) Addr() string { return s.p.addr() }

// SocketPath returns the path of the Unix socket.
func (s *Server) SocketPath() string { return s.p.socket() }

// Client returns a client over the Unix socket, which is closed when tb ends.
func (s *Server) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	return newClient(tb, s.p, 0)
}

func newClient(tb testing.TB, p *process, database int) *redis.Client {
	tb.Helper()
	client := p.client(database)
	tb.Cleanup(func() {
		if err := client.Close(); err != nil {
			tb.Errorf("close the Redis client: %v", err)
		}
	})
	return client
}

// Kill ends the server with SIGKILL and waits until it is gone.
func (s *Server) Kill() { s.p.kill() }

// Restart kills the server if it runs, starts it on the same addresses and
// returns when it answers.
func (s *Server) Restart() {
	s.tb.Helper()
	s.p.kill()
	if err := s.p.start(); err != nil {
		s.tb.Fatalf("restart redis-server: %v\n%s", err, s.p.log())
	}
}

// Pause freezes the server with SIGSTOP: connections stay, nothing is answered.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on; it then runs what has arrived meanwhile.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if err := s.p.signal(sig); err != nil {
		s.tb.Fatalf("send redis-server %v: %v", sig, err)
	}
}
