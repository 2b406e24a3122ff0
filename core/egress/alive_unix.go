//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package egress

import (
	"errors"
	"syscall"
)

// alive reports whether an idle connection is open and silent. A peer that has
// closed it, or that speaks without being asked, is found out here before the
// request is written, which saves an attempt whose fate would be unclear.
func (c *conn) alive() bool {
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	var b [1]byte
	err = rc.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && quiet
}
