package rawconn

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Conn is a connection over TCP or a Unix stream socket, as package net has it but
// for the way in which Read and Write ask the system. It sends no buffers together
// (net.Buffers) and no files.
type Conn struct {
	net.Conn
	raw            syscall.RawConn
	reader, writer transfer
}

// transfer is one direction of a connection.
type transfer struct {
	sync.Mutex // one after the other, as in package net

	deadline deadline

	// Of the transfer that is running.
	b   []byte
	n   int // bytes of b that were moved
	err error

	step func(fd uintptr) (done bool) // made once: otherwise each transfer would allocate it
}

// Wrap returns a Conn over c if c is a connection of package net over TCP or a
// Unix stream socket, and any other connection as it is.
func Wrap(c net.Conn) net.Conn {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return c
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return c // of no use any more
	}
	w := &Conn{Conn: c, raw: raw}
	w.reader.step, w.writer.step = w.reader.read, w.writer.write
	w.reader.deadline.set, w.writer.deadline.set = c.SetReadDeadline, c.SetWriteDeadline
	return w
}

// SyscallConn implements syscall.Conn. What waits by it may be told early that a
// deadline has passed, unless there is none; Read and Write know.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	t = monotonic(t)
	r, w := &c.reader.deadline, &c.writer.deadline
	r.mu.Lock()
	defer r.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch reads, writes := r.note(t), w.note(t); {
	case reads && writes:
		return c.Conn.SetDeadline(t)
	case reads:
		return r.set(t)
	case writes:
		return w.set(t)
	default:
		return nil
	}
}

// SetReadDeadline implements net.Conn. On a closed connection it may return nil.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.reader.deadline.want(t) }

// SetWriteDeadline implements net.Conn, likewise.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.writer.deadline.want(t) }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.reader.run(b, c.raw.Read)
	switch {
	case err != nil:
		return 0, c.error("read", err)
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.writer.run(b, c.raw.Write)
	if err != nil {
		return n, c.error("write", err)
	}
	return n, nil
}

// run moves b, waiting where wait has to. Nothing is asked of the system for an
// empty b.
func (t *transfer) run(b []byte, wait func(step func(uintptr) bool) error) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t.Lock()
	defer t.Unlock()
	t.b, t.n, t.err = b, 0, nil
	err := wait(t.step)
	for t.deadline.goesOn(err) {
		err = wait(t.step)
	}
	t.b = nil
	if t.err != nil {
		err = t.err
	}
	return t.n, err
}

// read takes what is there. It is not done as long as that is nothing; the end is
// something.
func (t *transfer) read(fd uintptr) bool {
	n, err := Read(fd, t.b)
	if err == syscall.EAGAIN {
		return false
	}
	if err != nil {
		t.err = os.NewSyscallError("read", err)
	}
	t.n = n
	return true
}

// write gives what there is room for. It is done when all of b was given.
func (t *transfer) write(fd uintptr) bool {
	for t.n < len(t.b) {
		n, err := Write(fd, t.b[t.n:])
		switch {
		case err == syscall.EAGAIN:
			return false
		case err != nil:
			t.err = os.NewSyscallError("write", err)
			return true
		}
		t.n += n
	}
	return true
}

// error says of an error what package net does: what was to be done, and between
// whom. The waits name it after themselves.
func (c *Conn) error(op string, err error) error {
	if waited := new(net.OpError); errors.As(err, &waited) {
		err = waited.Err
	}
	local, remote := c.LocalAddr(), c.RemoteAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: remote, Err: err}
}
