package redisstore

import (
	"net"
	"syscall"

	"github.com/sealpost/sealpost/core/rawconn"
)

// conn is a raw connection that go-redis's look for its health is spared, see look.
type conn struct {
	*rawconn.Conn
	look look
}

// newConn returns c itself if that cannot be made raw.
func newConn(c net.Conn) net.Conn {
	r, ok := rawconn.Wrap(c).(*rawconn.Conn)
	if !ok {
		return c
	}
	raw, _ := r.SyscallConn() // does not fail
	return &conn{r, look{raw}}
}

// SyscallConn implements syscall.Conn.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return &c.look, nil }

// look is how go-redis looks at each connection that it takes out of the pool: it
// reads one byte without taking it, and expects that there is none. Its system call
// would be the only one left that wakes Go's monitor thread, so the same is done
// beforehand without; what finds anything but silence is left to it to judge.
type look struct{ syscall.RawConn }

// Read implements syscall.RawConn, but that f is not called when there is nothing to be read.
func (l *look) Read(f func(fd uintptr) bool) error {
	return l.RawConn.Read(func(fd uintptr) bool { return rawconn.Quiet(fd) || f(fd) })
}
