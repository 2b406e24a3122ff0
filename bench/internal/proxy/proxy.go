// Package proxy is a TCP proxy on loopback that does to connections what networks
// do: it resets, delays, throttles and swallows, and it loses replies.
package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conditions are those of the network. The zero value passes everything on.
type Conditions struct {
	Latency time.Duration // of each piece, in either direction
	Rate    int           // bytes/s in each direction of a connection; 0: no limit
	Swallow bool          // half-open: whatever is sent vanishes, and the connection stays
	Refuse  bool          // new connections are reset
}

// Verdict is what becomes of a request.
type Verdict int

// The verdicts.
const (
	Pass      Verdict = iota
	Drop              // the connection is reset and the request never arrives
	LoseReply         // the request arrives, its reply does not, and the connection is reset
	CutReply          // the same after half of the reply
)

// Judge decides about a piece that a client sent: with requests that are small and
// wait for their replies, a request. nth counts the pieces of its connection from 0.
// It is called from many goroutines.
type Judge func(piece []byte, nth int) Verdict

// Proxy passes connections on to one address.
type Proxy struct {
	target     string
	listener   net.Listener
	conditions atomic.Pointer[Conditions]
	judge      atomic.Pointer[Judge]

	mu     sync.Mutex
	links  map[*link]struct{}
	closed bool
	wg     sync.WaitGroup // accepting, and two for each link
}

// pieceSize is the most that is passed on at a time.
const pieceSize = 32 << 10

// Start listens on a free port for connections to target.
func Start(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy to %s: %w", target, err)
	}
	p := &Proxy{target: target, listener: l, links: make(map[*link]struct{})}
	p.conditions.Store(&Conditions{})
	p.wg.Go(p.accept)
	return p, nil
}

// Addr returns the address that clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set changes the conditions, also for connections that exist.
func (p *Proxy) Set(c Conditions) { p.conditions.Store(&c) }

// Judge asks j about everything that clients send; nil: all passes.
func (p *Proxy) Judge(j Judge) {
	if j == nil {
		p.judge.Store(nil)
		return
	}
	p.judge.Store(&j)
}

// Reset resets all connections and returns how many there were.
func (p *Proxy) Reset() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
	return len(p.links)
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.listener.Close()
	for l := range p.links {
		l.reset()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors
			continue
		}
		p.wg.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

// serve connects a client with the target until one of them ends.
func (p *Proxy) serve(client *net.TCPConn) {
	l := &link{client: client, ended: make(chan struct{})}
	if p.conditions.Load().Refuse {
		l.reset()
		return
	}
	conn, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		l.reset()
		return
	}
	l.target = conn.(*net.TCPConn)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.reset()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()

	var back sync.WaitGroup
	back.Go(func() { p.pass(l, l.target, client, l.reply) })
	p.pass(l, client, l.target, p.request(l))
	back.Wait()
	l.close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pass copies from one side to the other. judge says how much of a piece may pass,
// and whether the connection lives on.
func (p *Proxy) pass(l *link, from, to *net.TCPConn, judge func([]byte) (int, bool)) {
	buf := make([]byte, pieceSize)
	for {
		n, err := from.Read(buf)
		for piece := buf[:n]; len(piece) > 0; {
			c := p.conditions.Load()
			if c.Swallow {
				break
			}
			part := piece
			wait := c.Latency
			if c.Rate > 0 {
				part = piece[:min(len(piece), max(1, c.Rate/20))]
				wait += time.Duration(len(part)) * time.Second / time.Duration(c.Rate)
			}
			if !l.wait(wait) {
				return
			}
			pass, alive := judge(part)
			_, err := to.Write(part[:pass])
			switch {
			case err != nil, !alive && pass == 0:
				l.reset()
				return
			case !alive:
				l.close() // in good order, so that what was passed on arrives
				return
			}
			piece = piece[len(part):]
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && !p.conditions.Load().Swallow:
			_ = to.CloseWrite() // the other direction may go on
			return
		case errors.Is(err, io.EOF):
			<-l.ended // a half-open connection knows of no end either
			return
		default:
			l.reset()
			return
		}
	}
}

// request returns the judge of what the client of l sends.
func (p *Proxy) request(l *link) func([]byte) (int, bool) {
	nth := 0
	return func(piece []byte) (int, bool) {
		v := Pass
		if j := p.judge.Load(); j != nil {
			v = (*j)(piece, nth)
		}
		nth++
		if v == Drop {
			return 0, false
		}
		if v != Pass {
			l.verdict.Store(int32(v))
		}
		return len(piece), true
	}
}

// link is a connection and its continuation.
type link struct {
	client, target *net.TCPConn
	verdict        atomic.Int32 // on the next reply
	once           sync.Once
	ended          chan struct{}
}

// reply judges what the target sends.
func (l *link) reply(piece []byte) (int, bool) {
	switch Verdict(l.verdict.Load()) {
	case LoseReply:
		return 0, false
	case CutReply:
		return len(piece) / 2, false
	default:
		return len(piece), true
	}
}

// wait pauses for d. It returns false when the link has ended.
func (l *link) wait(d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ended:
		return false
	}
}

// reset ends both connections with RST.
func (l *link) reset() {
	_ = l.client.SetLinger(0)
	if l.target != nil {
		_ = l.target.SetLinger(0)
	}
	l.close()
}

func (l *link) close() {
	l.once.Do(func() { close(l.ended) })
	l.client.Close()
	if l.target != nil {
		l.target.Close()
	}
}
