package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// cutter stands between a client and Redis and breaks a connection at a chosen step:
// before a command or in its middle, before a reply or in its middle. What was passed
// on before is run by Redis before the client learns that the connection is gone. From
// that step on Redis may be lost altogether, as it is to one who is killed there.
type cutter struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	links map[*cutLink]struct{}
	cut   cut
	armed bool
	lost  bool // nothing passes
	seen  int  // commands or replies since it was armed
}

// cut says where a connection breaks.
type cut struct {
	replies bool // replies are counted, not commands
	after   int  // so many pass
	half    bool // and half of the next one
	lose    bool // then Redis is lost until restore
}

func startCutter(t *testing.T, target string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{target: target, listener: l, links: make(map[*cutLink]struct{})}
	c.wg.Go(c.accept)
	t.Cleanup(c.close)
	return c
}

func (c *cutter) addr() string { return c.listener.Addr().String() }

// arm chooses the next step at which a connection breaks.
func (c *cutter) arm(at cut) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.armed, c.seen = at, true, 0
}

// disarm lets everything pass, and reports whether a connection has been broken.
func (c *cutter) disarm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	fired := !c.armed
	c.armed, c.lost = false, false
	return fired
}

// restore brings a lost Redis back.
func (c *cutter) restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = false
}

func (c *cutter) isLost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// pass returns how much of a command or reply may pass, and whether the connection
// breaks behind it.
func (c *cutter) pass(piece []byte, reply bool) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost {
		return 0, true
	}
	if !c.armed || reply != c.cut.replies {
		return len(piece), false
	}
	if c.seen < c.cut.after {
		c.seen++
		return len(piece), false
	}
	c.armed, c.lost = false, c.cut.lose
	if c.cut.half {
		return len(piece) / 2, true
	}
	return 0, true
}

func (c *cutter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return // closed
		}
		if c.isLost() {
			client.Close()
			continue
		}
		server, err := net.Dial("tcp", c.target)
		if err != nil {
			client.Close()
			continue
		}
		l := &cutLink{cutter: c, client: client.(*net.TCPConn), server: server.(*net.TCPConn)}
		c.mu.Lock()
		c.links[l] = struct{}{}
		c.mu.Unlock()
		c.wg.Go(l.commands)
		c.wg.Go(l.replies)
	}
}

func (c *cutter) close() {
	c.listener.Close()
	c.mu.Lock()
	for l := range c.links {
		l.client.Close()
		l.server.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// cutLink is a connection and its continuation.
type cutLink struct {
	*cutter
	client, server *net.TCPConn

	mu     sync.Mutex // of what is written to the server, and of broken
	broken bool
}

// commands passes on what the client sends.
func (l *cutLink) commands() {
	defer l.server.CloseWrite()
	r := bufio.NewReader(l.client)
	for {
		command, err := readRESP(r)
		if err != nil {
			return
		}
		l.mu.Lock()
		if l.broken {
			l.mu.Unlock()
			return
		}
		n, breaks := l.pass(command, false)
		_, err = l.server.Write(command[:n])
		l.broken = breaks
		l.mu.Unlock()
		if breaks || err != nil {
			return
		}
	}
}

// replies passes on what Redis sends. Once the connection is broken the rest is
// read, until Redis has run all that it got.
func (l *cutLink) replies() {
	defer l.client.Close()
	defer l.server.Close()
	r := bufio.NewReader(l.server)
	for {
		reply, err := readRESP(r)
		if err != nil {
			if l.isBroken() {
				_ = l.client.SetLinger(0) // a reset, after all that Redis was to do
			}
			return
		}
		if l.isBroken() {
			continue
		}
		n, breaks := l.pass(reply, true)
		_, _ = l.client.Write(reply[:n]) // a client that is gone ends the other direction
		if breaks {
			l.mu.Lock()
			l.broken = true
			l.mu.Unlock()
			_ = l.server.CloseWrite()
		}
	}
}

func (l *cutLink) isBroken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// readRESP reads a command or a reply.
func readRESP(r *bufio.Reader) ([]byte, error) {
	var raw bytes.Buffer
	for left := 1; left > 0; left-- {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		raw.Write(line)
		if len(line) < 3 {
			return nil, errors.New("not RESP")
		}
		n, err := strconv.Atoi(string(line[1 : len(line)-2]))
		switch line[0] {
		case '*', '~', '>', '%', '$', '=':
			if err != nil {
				return nil, err
			}
		}
		switch line[0] {
		case '*', '~', '>':
			left += max(n, 0)
		case '%':
			left += 2 * n
		case '$', '=':
			if n >= 0 {
				if _, err := io.CopyN(&raw, r, int64(n)+2); err != nil {
					return nil, err
				}
			}
		}
	}
	return raw.Bytes(), nil
}
