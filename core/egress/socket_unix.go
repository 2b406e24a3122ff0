//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package egress

import (
	"net"
	"syscall"

	"github.com/sealpost/sealpost/core/rawconn"
)

// socket is the file descriptor below a connection, for what package net does
// not offer. A connection without one (nil raw) does without.
type socket struct {
	raw syscall.RawConn

	// Of the write that is running.
	out   []byte // what is to be written
	sent  int    // bytes of out that were
	err   error  // why not all were
	tried bool

	send func(fd uintptr) bool // trySend, made once
}

func newSocket(c net.Conn) *socket {
	s := &socket{}
	s.send = s.trySend
	if sc, ok := c.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn() // fails on a closed connection only
	}
	return s
}

// alive reports whether an idle connection is open and silent. A peer that has
// closed it, or that speaks without being asked, is found out here before the
// request is written, which saves an attempt whose fate would be unclear.
func (s *socket) alive() bool {
	if s.raw == nil {
		return true
	}
	quiet := false
	err := s.raw.Control(func(fd uintptr) {
		quiet = rawconn.Quiet(fd)
	})
	return err == nil && quiet
}

// ask writes b to the socket and waits until there is something to read, which
// may be an error or the deadline's passing: the next Read tells. The usual
// Write and Read would read once in vain before the wait, which is a system call
// for each request. It returns how much was written; less than all of b without
// an error means that the caller has to go on with Write.
//
// The write happens inside the wait for input, whose preparation forgets
// earlier readiness: so the response cannot come unnoticed before the wait.
func (s *socket) ask(b []byte) (int, error) {
	if s.raw == nil {
		return 0, nil
	}
	s.out, s.sent, s.err, s.tried = b, 0, nil, false
	_ = s.raw.Read(s.send) // its error is the next Read's, or Write's if nothing was tried
	s.out = nil
	return s.sent, s.err
}

// trySend writes once; afterwards it says that it waits for input. net calls it
// again when there is some.
func (s *socket) trySend(fd uintptr) (done bool) {
	if s.tried {
		return true
	}
	s.tried = true
	n, err := rawconn.Write(fd, s.out)
	if err != nil && err != syscall.EAGAIN {
		s.err = err
	}
	s.sent = n
	return n < len(s.out)
}
