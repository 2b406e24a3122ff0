package egress

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

// nth returns a handler that treats the connections in turn, the last one as
// often as needed.
func nth(handlers ...func(*server, net.Conn)) func(*server, net.Conn) {
	return func(s *server, c net.Conn) {
		handlers[min(int(s.accepted.Load()), len(handlers))-1](s, c)
	}
}

// onSecondRequest answers the first request and does then to the second, after
// having read it.
func onSecondRequest(then func(net.Conn)) func(*server, net.Conn) {
	return func(s *server, c net.Conn) {
		r := bufio.NewReader(c)
		if !s.request(r) {
			return
		}
		io.WriteString(c, okResponse)
		if s.request(r) {
			then(c)
		}
	}
}

func hangUp(net.Conn) {}

func reset(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }

func TestStaleConnectionIsSentOnceMore(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(net.Conn){"closed": hangUp, "reset": reset} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, nth(onSecondRequest(then), answering(okResponse, false)))
			c := newClient(t)
			target := mustTarget(t, s.url("/"))
			if r := post(c, target); r.Status != 200 {
				t.Fatalf("first: got %s", r.brief())
			}
			composed := 0
			r := c.Post(t.Context(), time.Now(), patience, target, func(m *Message) error {
				composed++
				return hello(m)
			})
			if r.Status != 200 || !r.Resent || r.Reused || composed != 2 || s.accepted.Load() != 2 || s.requests.Load() != 3 {
				t.Errorf("got %s, composed %d times, %d connections, %d requests; want it sent again on a fresh connection", r.brief(), composed, s.accepted.Load(), s.requests.Load())
			}
			if r := post(c, target); !r.Reused {
				t.Errorf("third: got %s; want the fresh connection used again", r.brief())
			}
		})
	}
}

func TestFreshConnectionIsNotRepeated(t *testing.T) {
	t.Parallel()
	closeUnanswered := func(s *server, c net.Conn) { s.request(bufio.NewReader(c)) }
	s := serve(t, nth(onSecondRequest(hangUp), closeUnanswered))
	c := newClient(t)
	target := mustTarget(t, s.url("/"))
	post(c, target)
	r := post(c, target) // stale, then lost
	if r.Reason != core.ReasonConnectionLost || !r.Resent || !r.Started || s.accepted.Load() != 2 {
		t.Errorf("got %s on %d connections; want connection_lost after one repetition", r.brief(), s.accepted.Load())
	}
	r = post(c, target) // fresh, lost
	if r.Reason != core.ReasonConnectionLost || r.Resent || s.accepted.Load() != 3 {
		t.Errorf("got %s on %d connections; want connection_lost without repetition", r.brief(), s.accepted.Load())
	}
}

func TestReusedConnectionIsNotRepeatedWhenTheRequestMayBeAtWork(t *testing.T) {
	t.Parallel()
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		s := serve(t, onSecondRequest(func(c net.Conn) { io.Copy(io.Discard, c) }))
		c := newClient(t)
		target := mustTarget(t, s.url("/"))
		post(c, target)
		r := c.Post(t.Context(), time.Now(), 200*time.Millisecond, target, hello)
		if r.Reason != core.ReasonTimeout || r.Resent || !r.Reused || s.accepted.Load() != 1 {
			t.Errorf("got %s; want a timeout without repetition", r.brief())
		}
	})
	t.Run("response begun", func(t *testing.T) {
		t.Parallel()
		s := serve(t, onSecondRequest(func(c net.Conn) { io.WriteString(c, "HTTP/1.1 2") }))
		c := newClient(t)
		target := mustTarget(t, s.url("/"))
		post(c, target)
		r := post(c, target)
		if r.Reason != core.ReasonConnectionLost || r.Resent || s.accepted.Load() != 1 {
			t.Errorf("got %s; want connection_lost without repetition", r.brief())
		}
	})
}

func TestComposeErrorOnRepetition(t *testing.T) {
	t.Parallel()
	s := serve(t, nth(onSecondRequest(hangUp), answering(okResponse, false)))
	c := newClient(t)
	target := mustTarget(t, s.url("/"))
	post(c, target)
	gone := errors.New("endpoint is gone")
	composed := 0
	r := c.Post(t.Context(), time.Now(), patience, target, func(m *Message) error {
		if composed++; composed == 2 {
			return gone
		}
		return hello(m)
	})
	if r.Err != gone || r.Reason != "" || r.Status != 0 || !r.Started || s.requests.Load() != 2 {
		t.Errorf("got %s, %d requests seen; want compose's error and nothing sent again", r.brief(), s.requests.Load())
	}
}

// TestClosedWhileIdle: a connection that the server closed, or spoke on, while
// nobody used it is not used: the request is sent once, on a fresh one.
func TestClosedWhileIdle(t *testing.T) {
	t.Parallel()
	tests := map[string]func(net.Conn){
		"closed": func(net.Conn) {},
		"reset":  reset,
		"spoke":  func(c net.Conn) { io.WriteString(c, okResponse); io.Copy(io.Discard, c) },
	}
	for name, then := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proceed := make(chan struct{})
			s := serve(t, nth(func(s *server, c net.Conn) {
				s.request(bufio.NewReader(c))
				io.WriteString(c, okResponse)
				<-proceed
				then(c)
			}, answering(okResponse, false)))
			var ticks clock
			c := newClient(t, func(o *Options) { o.Now = ticks.now })
			target := mustTarget(t, s.url("/"))
			post(c, target)
			close(proceed)
			eventually(t, "the end is seen on this side", func() bool {
				c.pool.mu.Lock()
				defer c.pool.mu.Unlock()
				return c.pool.newest != nil && !c.pool.newest.socket.alive()
			})
			ticks.advance(aliveWithin)
			r := post(c, target)
			if r.Status != 200 || r.Reused || r.Resent || s.requests.Load() != 2 || s.accepted.Load() != 2 {
				t.Errorf("got %s, %d requests on %d connections; want one request on a fresh connection", r.brief(), s.requests.Load(), s.accepted.Load())
			}
		})
	}
}

func TestQuietIdleConnectionIsUsed(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, false))
	var ticks clock
	c := newClient(t, func(o *Options) { o.Now = ticks.now })
	target := mustTarget(t, s.url("/"))
	post(c, target)
	ticks.advance(aliveWithin)
	if r := post(c, target); !r.Reused {
		t.Errorf("got %s; want the connection used again", r.brief())
	}
	ticks.advance(DefaultIdleTimeout)
	if r := post(c, target); r.Reused || r.Status != 200 || s.accepted.Load() != 2 {
		t.Errorf("after the idle timeout: got %s; want a fresh connection", r.brief())
	}
}

func TestDropIdle(t *testing.T) {
	t.Parallel()
	inUse, release := make(chan struct{}), make(chan struct{})
	s := serve(t, nth(answering(okResponse, false), func(s *server, c net.Conn) {
		r := bufio.NewReader(c)
		s.request(r)
		close(inUse)
		<-release
		io.WriteString(c, okResponse)
		s.request(r)
	}, answering(okResponse, false)))
	c := newClient(t)
	target := mustTarget(t, s.url("/"))
	post(c, target)
	c.DropIdle(target)
	second := make(chan Result, 1)
	go func() { second <- post(c, target) }()
	<-inUse // an idle connection would have been taken by now
	c.DropIdle(target)
	close(release)
	if r := <-second; r.Status != 200 || r.Reused {
		t.Errorf("after DropIdle: got %s; want a fresh connection", r.brief())
	}
	if r := post(c, target); r.Reused || r.Status != 200 {
		t.Errorf("a connection in use at DropIdle came back: got %s", r.brief())
	}
	c.DropIdle(mustTarget(t, "http://127.0.0.1:1/")) // of a host that is not known
}

func TestClose(t *testing.T) {
	t.Parallel()
	inUse, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(s *server, c net.Conn) {
		r := bufio.NewReader(c)
		s.request(r)
		close(inUse)
		<-release
		io.WriteString(c, okResponse)
		s.request(r)
	})
	c := newClient(t, func(o *Options) { o.MaxConnsPerHost = 1 })
	target := mustTarget(t, s.url("/"))
	running, waiting := make(chan Result, 1), make(chan Result, 1)
	go func() { running <- post(c, target) }()
	<-inUse
	go func() { waiting <- post(c, target) }()
	eventually(t, "the second request waits", func() bool {
		c.pool.mu.Lock()
		defer c.pool.mu.Unlock()
		return len(c.pool.hosts[target.key].waiting) == 1
	})
	c.Close()
	if r := <-waiting; !errors.Is(r.Err, ErrClosed) || r.Reason != "" {
		t.Errorf("waiting: got %s; want ErrClosed", r.brief())
	}
	if r := post(c, target); !errors.Is(r.Err, ErrClosed) || r.Reason != "" {
		t.Errorf("later: got %s; want ErrClosed", r.brief())
	}
	close(release)
	if r := <-running; r.Status != 200 {
		t.Errorf("running: got %s; want it to finish", r.brief())
	}
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if len(c.pool.hosts) != 0 || c.pool.idle != 0 {
		t.Errorf("%d hosts, %d idle connections left", len(c.pool.hosts), c.pool.idle)
	}
}

// A peer that closes its side while a request is composed is found out before the
// request is written: it need not say so a second time.
func TestHalfClosedWhileComposing(t *testing.T) {
	t.Parallel()
	closing, closed := make(chan struct{}), make(chan struct{})
	s := serve(t, nth(func(s *server, c net.Conn) {
		r := bufio.NewReader(c)
		if !s.request(r) {
			return
		}
		io.WriteString(c, okResponse)
		<-closing
		_ = c.(*net.TCPConn).CloseWrite()
		close(closed)
		_, _ = io.Copy(io.Discard, r) // reads on and never answers
	}, answering(okResponse, false)))
	c := newClient(t)
	target := mustTarget(t, s.url("/"))
	if r := post(c, target); r.Status != 200 {
		t.Fatalf("first: got %s", r.brief())
	}
	composed := 0
	r := c.Post(t.Context(), time.Now(), patience, target, func(m *Message) error {
		if composed++; composed == 1 {
			close(closing)
			<-closed
			time.Sleep(2 * aliveWithin) // as long as the look is thought to be needless
		}
		return hello(m)
	})
	if r.Status != 200 || !r.Resent || composed != 2 {
		t.Errorf("got %s, composed %d times; want it sent on a fresh connection", r.brief(), composed)
	}
}
