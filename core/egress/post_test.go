package egress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
)

func deadlineIn(d time.Duration) time.Time { return time.Now().Add(d) }

func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 2, inlineBody, inlineBody + 1, 300_000} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			t.Parallel()
			body := strings.Repeat("x", size)
			got := make(chan string, 1)
			s := serve(t, func(_ *server, c net.Conn) {
				head := fmt.Sprintf("content-length: %d\r\nwebhook-id: evt_1\r\nwebhook-signature: v1,xyz\r\n\r\n", size)
				var b bytes.Buffer
				r := io.TeeReader(c, &b)
				for !strings.HasSuffix(b.String(), head+body) {
					if _, err := r.Read(make([]byte, 64<<10)); err != nil {
						break
					}
				}
				got <- b.String()
				io.WriteString(c, okResponse)
			})
			r := newClient(t).Post(t.Context(), time.Now(), patience, mustTarget(t, s.url("/hook%20s?a=b&c")), func(m *Message) error {
				m.Header = append(m.Header, "webhook-id: evt_1\r\nwebhook-signature: v1,xyz\r\n"...)
				m.Body = []byte(body)
				return nil
			})
			if r.Status != 200 {
				t.Fatalf("got %s", r.brief())
			}
			want := "POST /hook%20s?a=b&c HTTP/1.1\r\nhost: " + s.Addr().String() + "\r\nuser-agent: Sealpost/" + core.Version +
				"\r\ncontent-type: application/json\r\ncontent-length: " + fmt.Sprint(size) +
				"\r\nwebhook-id: evt_1\r\nwebhook-signature: v1,xyz\r\n\r\n" + body
			if diff := cmp.Diff(want, <-got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTimings(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, false))
	c := newClient(t)
	target := mustTarget(t, s.url("/"))
	first, second := post(c, target), post(c, target)
	if first.Connect <= 0 || first.FirstByte <= 0 || first.Total < first.Connect+first.FirstByte || first.DNS != 0 || first.TLS != 0 {
		t.Errorf("fresh connection: %+v", first)
	}
	if second.Connect != 0 || second.FirstByte <= 0 || second.Total < second.FirstByte {
		t.Errorf("reused connection: %+v", second)
	}
}

// TestDeadline: wherever the peer stops, the attempt ends at its deadline.
func TestDeadline(t *testing.T) {
	t.Parallel()
	drip := func(head string) func(*server, net.Conn) {
		return func(s *server, c net.Conn) {
			if !s.request(bufio.NewReader(c)) {
				return
			}
			io.WriteString(c, head)
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond) // the drip itself, not a wait
			}
		}
	}
	tests := []struct {
		name    string
		scheme  string
		handle  func(*server, net.Conn)
		body    int
		started bool
	}{
		{name: "silent after accept", scheme: "http", handle: stall, started: true},
		{name: "never reads", scheme: "http", handle: func(_ *server, c net.Conn) { <-neverRead(c) }, body: 64 << 20, started: true},
		{name: "silent before TLS", scheme: "https", handle: stall},
		{name: "silent in the middle of TLS", scheme: "https", handle: func(s *server, c net.Conn) {
			c.Write([]byte{22, 3, 3, 0, 80, 2}) // the beginning of a ServerHello
			stall(s, c)
		}},
		{name: "dripping head", scheme: "http", handle: drip("HTTP/1.1 200 OK\r\nx: "), started: true},
		{name: "dripping body", scheme: "http", handle: drip("HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n"), started: true},
		{name: "dripping body without a length", scheme: "http", handle: drip("HTTP/1.1 200 OK\r\n\r\n"), started: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.handle)
			c := newClient(t)
			r := c.Post(t.Context(), time.Now(), 300*time.Millisecond, mustTarget(t, tt.scheme+"://"+s.Addr().String()+"/"), func(m *Message) error {
				m.Body = make([]byte, tt.body)
				return nil
			})
			if r.Reason != core.ReasonTimeout || r.Status != 0 || r.Err == nil || r.Started != tt.started {
				t.Errorf("got %s; want reason timeout, started %t", r.brief(), tt.started)
			}
			if r.Total < 300*time.Millisecond || r.Total > patience {
				t.Errorf("ended after %v", r.Total)
			}
		})
	}
}

// neverRead returns a channel that is closed when c is closed on this side.
func neverRead(c net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		rc, err := c.(*net.TCPConn).SyscallConn()
		for err == nil {
			time.Sleep(time.Millisecond)
			err = rc.Control(func(uintptr) {})
		}
	}()
	return done
}

func TestDeadlineBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, false))
	c := newClient(t)
	const timeout = 200 * time.Millisecond
	r := c.Post(t.Context(), time.Now(), timeout, mustTarget(t, s.url("/")), func(m *Message) error {
		time.Sleep(timeout)
		return hello(m)
	})
	if r.Reason != core.ReasonTimeout || r.Started || s.requests.Load() != 0 {
		t.Errorf("got %s; want reason timeout and nothing sent", r.brief())
	}
	if r := c.Post(t.Context(), time.Now(), -time.Second, mustTarget(t, s.url("/")), hello); r.Reason != core.ReasonTimeout || r.Started {
		t.Errorf("past deadline: got %s; want reason timeout", r.brief())
	}
}

func TestContextDeadlineCounts(t *testing.T) {
	t.Parallel()
	s := serve(t, stall)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if r := newClient(t).Post(ctx, time.Now(), patience*10, mustTarget(t, s.url("/")), hello); r.Reason != core.ReasonTimeout {
		t.Errorf("got %s; want reason timeout", r.brief())
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	why := errors.New("shutting down")

	t.Run("before", func(t *testing.T) {
		t.Parallel()
		s := serve(t, stall)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		r := newClient(t).Post(ctx, time.Now(), patience, mustTarget(t, s.url("/")), hello)
		if r.Reason != "" || !errors.Is(r.Err, why) || r.Started {
			t.Errorf("got %s; want no attempt and the cause", r.brief())
		}
	})
	t.Run("while composing", func(t *testing.T) {
		t.Parallel()
		s := serve(t, stall)
		ctx, cancel := context.WithCancelCause(t.Context())
		r := newClient(t).Post(ctx, time.Now(), patience, mustTarget(t, s.url("/")), func(m *Message) error {
			cancel(why)
			return hello(m)
		})
		if r.Reason != "" || !errors.Is(r.Err, why) || r.Started {
			t.Errorf("got %s; want no attempt and the cause", r.brief())
		}
	})
	t.Run("while waiting for the response", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		s := serve(t, func(s *server, c net.Conn) {
			if s.request(bufio.NewReader(c)) {
				cancel(why)
			}
			stall(s, c)
		})
		r := newClient(t).Post(ctx, time.Now(), patience, mustTarget(t, s.url("/")), hello)
		if r.Reason != core.ReasonConnectionLost || !errors.Is(r.Err, why) || !r.Started {
			t.Errorf("got %s; want a lost connection and the cause", r.brief())
		}
	})
	t.Run("during TLS", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		s := serve(t, func(s *server, c net.Conn) {
			cancel(why)
			stall(s, c)
		})
		r := newClient(t).Post(ctx, time.Now(), patience, mustTarget(t, "https://"+s.Addr().String()+"/"), hello)
		if r.Reason != "" || !errors.Is(r.Err, why) || r.Started {
			t.Errorf("got %s; want no attempt and the cause", r.brief())
		}
	})
}

func TestComposeErrorWritesNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, false))
	c := newClient(t)
	target := mustTarget(t, s.url("/"))
	gone := errors.New("endpoint is gone")
	refuse := func(m *Message) error {
		m.Header = append(m.Header, "half a line"...)
		return gone
	}
	if r := c.Post(t.Context(), time.Now(), patience, target, refuse); r.Err != gone || r.Reason != "" || r.Status != 0 || r.Started {
		t.Errorf("got %s; want compose's error alone", r.brief())
	}
	r := post(c, target)
	if r.Status != 200 || !r.Reused || s.accepted.Load() != 1 || s.requests.Load() != 1 {
		t.Errorf("next request: %s on %d connections, %d requests seen; want the same connection", r.brief(), s.accepted.Load(), s.requests.Load())
	}
}

func TestComposeRunsOnAReadyConnection(t *testing.T) {
	t.Parallel()
	accepted := make(chan struct{})
	s := serve(t, func(s *server, c net.Conn) {
		close(accepted)
		answering(okResponse, false)(s, c)
	})
	r := newClient(t).Post(t.Context(), time.Now(), patience, mustTarget(t, s.url("/")), func(m *Message) error {
		select {
		case <-accepted:
			return hello(m)
		case <-time.After(patience):
			return errors.New("composed before there was a connection")
		}
	})
	if r.Status != 200 {
		t.Errorf("got %s", r.brief())
	}
}

func TestMessageHeaderMustBeLines(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, false))
	c := newClient(t)
	for _, header := range []string{"\n", "webhook-id: evt_1", "webhook-id: evt_1\n"} {
		r := c.Post(t.Context(), time.Now(), patience, mustTarget(t, s.url("/")), func(m *Message) error {
			m.Header = append(m.Header, header...)
			return nil
		})
		if r.Err != errHeaderLines || r.Started {
			t.Errorf("header %q: got %s", header, r.brief())
		}
	}
}

// TestConnectionLimit: beyond the limit requests wait and none fails.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	const limit, requests = 3, 40
	var now, most atomic.Int64
	s := serve(t, func(s *server, c net.Conn) {
		r := bufio.NewReader(c)
		for s.request(r) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			now.Add(-1)
			io.WriteString(c, okResponse)
		}
	})
	c := newClient(t, func(o *Options) { o.MaxConnsPerHost = limit })
	target := mustTarget(t, s.url("/"))
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			if r := post(c, target); r.Status != 200 {
				t.Errorf("got %s", r.brief())
			}
		})
	}
	wg.Wait()
	if most.Load() > limit || s.accepted.Load() > limit || s.requests.Load() != requests {
		t.Errorf("%d at once on %d connections, %d requests; want at most %d and %d", most.Load(), s.accepted.Load(), s.requests.Load(), limit, requests)
	}
}

func TestBusyHostIsNoFailure(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := serve(t, func(s *server, c net.Conn) {
		s.request(bufio.NewReader(c))
		<-release
		io.WriteString(c, okResponse)
	})
	c := newClient(t, func(o *Options) { o.MaxConnsPerHost = 1 })
	target := mustTarget(t, s.url("/"))
	first := make(chan Result, 1)
	go func() { first <- post(c, target) }()
	eventually(t, "first request arrives", func() bool { return s.requests.Load() == 1 })
	if r := c.Post(t.Context(), time.Now(), 50*time.Millisecond, target, hello); !errors.Is(r.Err, ErrBusy) || r.Reason != "" || r.Started {
		t.Errorf("got %s; want ErrBusy and no reason", r.brief())
	}
	close(release)
	if r := <-first; r.Status != 200 {
		t.Errorf("first: got %s", r.brief())
	}
}

func TestConnectRefused(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := post(newClient(t), mustTarget(t, "http://"+l.Addr().String()+"/"))
	if r.Reason != core.ReasonConnect || r.Started || r.Err == nil {
		t.Errorf("got %s; want reason connect", r.brief())
	}
}

func TestPlainHTTPNeedsPermission(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, false))
	r := post(newClient(t, func(o *Options) { o.AllowHTTP = false }), mustTarget(t, s.url("/")))
	if r.Reason != core.ReasonBlocked || s.accepted.Load() != 0 {
		t.Errorf("got %s; want reason blocked_address", r.brief())
	}
}

func TestConnectionMetric(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, false))
	registry := prometheus.NewPedanticRegistry()
	c := newClient(t, func(o *Options) { o.Registerer = registry })
	for range 3 {
		post(c, mustTarget(t, s.url("/")))
	}
	want := `
# HELP sealpost_sender_connections_total Connections taken for a request, by whether they were used before.
# TYPE sealpost_sender_connections_total counter
sealpost_sender_connections_total{reused="false"} 1
sealpost_sender_connections_total{reused="true"} 2
# HELP sealpost_sender_idle_connections Connections to receivers that are kept for their next request.
# TYPE sealpost_sender_idle_connections gauge
sealpost_sender_idle_connections 1
# HELP sealpost_sender_requests_resent_total Requests sent again on a fresh connection because the reused one turned out to be closed.
# TYPE sealpost_sender_requests_resent_total counter
sealpost_sender_requests_resent_total 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if _, err := New(Options{Registerer: registry}); err == nil {
		t.Error("a second client on the same registry: no error")
	}
}

func TestNegativeLimits(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{MaxConnsPerHost: -1}, {MaxIdlePerHost: -1}, {MaxIdle: -1}, {IdleTimeout: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v): no error", o)
		}
	}
}
