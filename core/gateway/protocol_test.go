package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
	"github.com/sealpost/sealpost/core/trial"
)

// What is no proper request is answered with one problem, and the connection is
// closed: never two answers.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const host = "Host: x\r\n"
	for name, tt := range map[string]struct {
		request string
		status  int
		code    core.Code
	}{
		"garbage":               {"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, core.CodeBadRequest},
		"no version":            {"GET /\r\n\r\n", 400, core.CodeBadRequest},
		"header without colon":  {"GET / HTTP/1.1\r\n" + host + "nonsense\r\n\r\n", 400, core.CodeBadRequest},
		"space before colon":    {"GET / HTTP/1.1\r\n" + host + "Content-Length : 5\r\n\r\nhello", 400, core.CodeBadRequest},
		"negative length":       {"POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400, core.CodeBadRequest},
		"two lengths":           {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, core.CodeBadRequest},
		"length and chunked":    {"POST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, core.CodeBadRequest},
		"chunked and length":    {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nCONTENT-length:4\r\n\r\n0\r\n\r\n", 400, core.CodeBadRequest},
		"length comes first":    {"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n" + host + "\r\n0\r\n\r\n", 400, core.CodeBadRequest},
		"unknown encoding":      {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, core.CodeBadRequest},
		"large head":            {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 9<<10) + "\r\n\r\n", 431, core.CodeHeaderTooLarge},
		"large path":            {"GET /" + strings.Repeat("a", 9<<10) + " HTTP/1.1\r\n" + host + "\r\n", 431, core.CodeHeaderTooLarge},
		"chunked in HTTP/1.0":   {"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, core.CodeBadRequest},
		"identity":              {"POST / HTTP/1.1\r\n" + host + "transfer-encoding: identity\r\n\r\n", 400, core.CodeBadRequest},
		"identity and length":   {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nabcd", 400, core.CodeBadRequest},
		"folded length":         {"POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n 4\r\n\r\nabcd", 400, core.CodeBadRequest},
		"folded with a tab":     {"POST / HTTP/1.1\r\n" + host + "X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, core.CodeBadRequest},
		"folded at once":        {"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, core.CodeBadRequest},
		"chunked, second spell": {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, core.CodeBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := f.raw()
			c.t = t
			c.write(tt.request)
			a := c.answer()
			a.t = t
			a.want(tt.status, tt.code)
			c.closed()
		})
	}
}

func TestSlowRequestsTimeOut(t *testing.T) {
	t.Parallel()
	f := setup(t, func(s *Server) { s.http.ReadTimeout = 200 * time.Millisecond })
	for name, request := range map[string]string{
		"head":       "POST /api/v1/events HTTP/1.1\r\nHost:",
		"small body": f.head("Content-Length: 100") + "{",
		"large body": f.head("Content-Length: 100000") + strings.Repeat(" ", 50_000),
		"chunk":      f.head("Transfer-Encoding: chunked") + "100\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := f.raw()
			c.t = t
			c.write(request)
			a := c.answer()
			a.t = t
			a.want(408, core.CodeTimeout)
			c.closed()
		})
	}
}

func TestPipelinedRequests(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.raw()
	one := f.head("Content-Length: 42") + goodEvent
	c.write(strings.Repeat(one, 20))
	for range 20 {
		c.answer().want(202, "")
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.MaxConns = 3 })
	const request = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
	var open []*raw
	for range 3 {
		c := f.raw()
		c.write(request)
		c.answer().want(404, core.CodeNotFound)
		open = append(open, c)
	}
	c := f.raw()
	a := c.answer()
	a.want(503, core.CodeUnavailable)
	if a.Header.Get("Retry-After") != "1" || a.Header.Get("X-Request-Id") == "" {
		t.Errorf("headers %v", a.Header)
	}
	c.closed()
	if got := testutil.ToFloat64(f.server.metrics.refusedConns); got != 1 {
		t.Errorf("%v refusals counted", got)
	}
	open[0].Close()
	for deadline := time.Now().Add(10 * time.Second); f.server.openConns() > 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the closed connection is still counted")
		}
	}
	// fasthttp's own count, which decides, follows in a moment.
	for deadline := time.Now().Add(10 * time.Second); ; {
		c := f.raw()
		c.write(request)
		if a := c.answer(); a.StatusCode == 404 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("status %d although a connection was closed", a.StatusCode)
		}
	}
}

// Requests in flight are finished, idle connections closed, new ones refused.
func TestShutdown(t *testing.T) {
	t.Parallel()
	f := setup(t)
	started, gate := make(chan struct{}), make(chan struct{})
	f.publisher.publishFunc = func(*publish.Request) ([]byte, error) {
		close(started)
		<-gate
		return []byte(`{}`), nil
	}
	idle := f.raw()
	idle.write("GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
	idle.answer().want(404, core.CodeNotFound)
	busy := f.raw()
	busy.write(f.head("Content-Length: 42") + goodEvent)
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- f.stop() }()
	idle.closed()
	if c, err := net.Dial("tcp", f.server.Addr().String()); err == nil {
		c.Close()
		t.Error("a new connection was accepted")
	}
	select {
	case err := <-stopped:
		t.Fatalf("Run ended with a request in flight: %v", err)
	default:
	}
	close(gate)
	a := busy.answer().want(202, "")
	if !a.Close {
		t.Error("no Connection: close")
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// What does not end in time is cut off, and Run says so.
func TestShutdownIsBounded(t *testing.T) {
	t.Parallel()
	store, publisher := newStubStore(), &stubPublisher{}
	s, err := New(Options{
		Listen: "127.0.0.1:0", Store: store, Keys: store, Publisher: publisher, Keyring: testKeyring(t), Tester: &trial.Trier{},
		CanonicalURL: func(raw string) (string, error) { return raw, nil }, ShutdownTimeout: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /x HTTP/1.1\r\nHost: x\r\n\r\nGET"); err != nil { // half a request
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "1 connections were still open") {
		t.Errorf("Run: %v", err)
	}
}

func TestListenerFails(t *testing.T) {
	t.Parallel()
	store := newStubStore()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Listener: inner, Store: store, Keys: store, Publisher: &stubPublisher{}, Keyring: testKeyring(t), Tester: &trial.Trier{},
		CanonicalURL: func(raw string) (string, error) { return raw, nil },
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	inner.Close()
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run ended without an error although nothing stopped it")
	}
	o.Listener, o.Listen = nil, "256.0.0.1:1"
	if _, err := New(o); err == nil {
		t.Error("New bound an impossible address")
	}
}

// starved is a listener that fails for a while as if no more files could be opened.
type starved struct {
	net.Listener
	errs []error
}

func (l *starved) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	return l.Listener.Accept()
}

// Who opens so many connections that no more can be taken does not end the server.
func TestNoMoreFiles(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Listener = &starved{inner, []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED}}
	})
	f.call("GET", "/x", "").want(404, core.CodeNotFound)
	if n := strings.Count(f.logs.String(), "cannot take connections"); n != 3 {
		t.Errorf("%d complaints, want 3", n)
	}
}

func TestConnectionsWithinFiles(t *testing.T) {
	t.Parallel()
	for files, want := range map[uint64]int{256: 192, 1024: 768, 4096: 3584, 20_000: DefaultMaxConns, 1 << 63: DefaultMaxConns} {
		if got := connsWithin(files); got != want {
			t.Errorf("%d connections within %d files, want %d", got, files, want)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	store := newStubStore()
	good := Options{
		Listen: "127.0.0.1:0", Store: store, Keys: store, Publisher: &stubPublisher{}, Keyring: testKeyring(t), Tester: &trial.Trier{},
		CanonicalURL: func(raw string) (string, error) { return raw, nil },
	}
	for name, spoil := range map[string]func(*Options){
		"Store":           func(o *Options) { o.Store = nil },
		"Keys":            func(o *Options) { o.Keys = nil },
		"Publisher":       func(o *Options) { o.Publisher = nil },
		"Keyring":         func(o *Options) { o.Keyring = nil },
		"Tester":          func(o *Options) { o.Tester = nil },
		"CanonicalURL":    func(o *Options) { o.CanonicalURL = nil },
		"Listen":          func(o *Options) { o.Listen = "" },
		"negative":        func(o *Options) { o.MaxPayload = -1 },
		"RotationOverlap": func(o *Options) { o.RotationOverlap = maxOverlap + 1 },
	} {
		o := good
		spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	t.Parallel()
	documented, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range core.Codes() {
		status, title, ok := statusOf(code)
		if !ok || status < 400 || title == "" {
			t.Errorf("%s: status %d, title %q", code, status, title)
		}
		row := "| `" + string(code) + "` | " + itoa(status) + " |"
		if !strings.Contains(string(documented), row) {
			t.Errorf("docs/API.md has no row %q", row)
		}
	}
	if status, _, ok := statusOf("made up"); ok || status != 500 {
		t.Error("a code that does not exist has a status")
	}
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	f := setup(t, func(o *Options) { o.Registerer = registry })
	f.call("POST", "/api/v1/events", goodEvent).want(202, "")
	f.call("POST", "/api/v1/events", goodEvent).want(202, "")
	f.call("POST", "/api/v1/events", `{`).want(400, core.CodeInvalidJSON)
	f.call("GET", "/x", "").want(404, core.CodeNotFound)
	f.call("PUT", "/api/v1/events", "").want(405, core.CodeMethodNotAllowed)
	value := func(route, code string) float64 {
		return testutil.ToFloat64(f.server.metrics.requests.WithLabelValues(route, code))
	}
	await := func(route, code string, want float64) { // counted just after the answer
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); value(route, code) != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s %s: %v, want %v", route, code, value(route, code), want)
			}
		}
	}
	await("POST /api/v1/events", "202", 2)
	await("POST /api/v1/events", "400", 1)
	await(unmatched, "404", 1)
	await(unmatched, "405", 1)
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	store := newStubStore()
	_, err := New(Options{
		Listen: "127.0.0.1:0", Store: store, Keys: store, Publisher: f.publisher, Keyring: testKeyring(t), Tester: &trial.Trier{}, Registerer: registry,
		CanonicalURL: func(raw string) (string, error) { return raw, nil },
	})
	if !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		t.Errorf("second registration: %v", err)
	}
}

// Complaints about Redis are logged once a second, mistakes always.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	f := setup(t, func(o *Options) { o.Now = func() time.Time { return now } })
	f.publisher.publishFunc = func(*publish.Request) ([]byte, error) { return nil, core.Unavailable("x", nil) }
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { f.call("POST", "/api/v1/events", goodEvent).want(503, core.CodeUnavailable) })
	}
	wg.Wait()
	if n := strings.Count(f.logs.String(), "request not confirmed"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
}
