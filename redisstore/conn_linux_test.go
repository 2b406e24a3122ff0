package redisstore

import (
	"syscall"
	"testing"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// go-redis's own look at a connection is a system call that Go's scheduler hears of.
func TestSilenceIsNotLookedAtTwice(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, err := dialer(dialTimeout)(t.Context(), "tcp", server.Addr())
	noError(t, err)
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	noError(t, err)
	looks := 0
	look := func() {
		noError(t, raw.Read(func(uintptr) bool { looks++; return true }))
	}
	look()
	if looks != 0 {
		t.Errorf("%d looks at a silent connection", looks)
	}
	server.Kill()
	for looks == 0 && t.Context().Err() == nil {
		look() // until the end has arrived
	}
}
