package egress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

const okResponse = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// newClient returns a client that may reach loopback over http.
func newClient(t testing.TB, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{AllowHTTP: true, AllowNets: loopback}
	for _, c := range change {
		c(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func mustTarget(t testing.TB, url string) *Target {
	t.Helper()
	target, err := ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func hello(m *Message) error {
	m.Header = append(m.Header, "webhook-id: evt_1\r\n"...)
	m.Body = []byte("{}")
	return nil
}

func post(c *Client, target *Target) Result {
	return c.Post(context.Background(), c.now(), patience, target, hello)
}

// server is a TCP server that is told what to do with each connection.
type server struct {
	net.Listener
	accepted atomic.Int64
	requests atomic.Int64 // counted by request

	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// serve starts a server on loopback that ends with the test.
func serve(t testing.TB, handle func(s *server, c net.Conn)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Listener: l, conns: make(map[net.Conn]bool)}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			s.wg.Go(func() {
				defer c.Close()
				handle(s, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.closeAll()
		s.wg.Wait()
	})
	return s
}

func (s *server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func (s *server) url(path string) string { return "http://" + s.Addr().String() + path }

// request reads one request and its body; false at the end of the connection.
func (s *server) request(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return false
	}
	s.requests.Add(1)
	return true
}

// answering returns a handler that gives the same answer to every request, and
// closes where the answer says so or has no other end.
func answering(response string, closing bool) func(*server, net.Conn) {
	return func(s *server, c net.Conn) {
		r := bufio.NewReader(c)
		for s.request(r) {
			if _, err := io.WriteString(c, response); err != nil || closing {
				return
			}
		}
	}
}

// stall keeps a connection open without a word until the other side hangs up.
func stall(_ *server, c net.Conn) { io.Copy(io.Discard, c) }

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("did not happen: %s", what)
}

// clock is a clock that tests move on.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

func (r Result) brief() string {
	return fmt.Sprintf("status %d, reason %q, err %v, started %t, reused %t, resent %t", r.Status, r.Reason, r.Err, r.Started, r.Reused, r.Resent)
}
