package egress

import (
	"net"
	"time"
)

// conn is a connection to a host. While it is in use one goroutine owns it;
// while it is idle the pool does.
type conn struct {
	net.Conn          // what is read and written: TCP, or TLS on top of it
	raw      net.Conn // the TCP connection
	socket   *socket  // of raw
	abort    func()   // makes every pending and further read and write fail
	key      string   // of the host; see Target
	now      func() time.Time

	// Of the exchange that is running.
	budget   int       // bytes that may still be read
	received int       // bytes read so far
	first    time.Time // when the first of them came
	readErr  error     // the last error of Read
	spent    bool      // a read was refused because budget was used up

	// The pool's.
	generation uint64
	idleSince  time.Time
	prev, next *conn
}

func newConn(c, raw net.Conn, key string, generation uint64, now func() time.Time) *conn {
	past := time.Unix(1, 0)
	return &conn{
		Conn: c, raw: raw, socket: newSocket(raw), key: key, generation: generation, now: now,
		abort: func() { _ = raw.SetDeadline(past) }, // fails on a closed connection only
	}
}

// begin prepares for an exchange that must be over at deadline.
func (c *conn) begin(deadline time.Time) error {
	c.budget, c.received, c.first, c.readErr, c.spent = 0, 0, time.Time{}, nil, false
	return c.raw.SetDeadline(deadline)
}

// Read reads within the budget and notes what the judgement of a failure needs,
// since a parser on top of it hides the cause.
func (c *conn) Read(p []byte) (int, error) {
	if c.budget <= 0 {
		c.spent = true
		return 0, errTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.budget)])
	if n > 0 && c.received == 0 {
		c.first = c.now()
	}
	c.received += n
	c.budget -= n
	c.readErr = err
	return n, err
}

// writeRequest writes a whole request. Over plain TCP it returns when there is
// something to read, or there will never be.
func (c *conn) writeRequest(b []byte) error {
	if c.Conn == c.raw {
		n, err := c.socket.ask(b)
		if err != nil {
			return err
		}
		b = b[n:]
		if len(b) == 0 {
			return nil
		}
	}
	_, err := c.Write(b)
	return err
}

// cut closes the connection at once: the peer may not be reading, and a TLS
// farewell would wait for it, for up to five seconds.
func (c *conn) cut() { _ = c.raw.Close() }
