//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package rawconn

import (
	"io"
	"syscall"
)

// Read is read(2) on the descriptor of a socket of package net, or of anything else that
// does not block. It returns 0 bytes at the end, and syscall.EAGAIN when there is nothing
// to be read yet. b must not be empty.
func Read(fd uintptr, b []byte) (int, error) {
	for {
		if n, err := read(fd, b); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Write is write(2), likewise. It returns syscall.EAGAIN when there is no room yet.
func Write(fd uintptr, b []byte) (int, error) {
	for {
		n, err := write(fd, b)
		switch {
		case err == syscall.EINTR:
		case n == 0 && err == nil:
			return 0, io.ErrUnexpectedEOF
		default:
			return max(n, 0), err
		}
	}
}

// Quiet reports whether the connection is open and has nothing to be read. Nothing
// is taken from it.
func Quiet(fd uintptr) bool { return peek(fd) == syscall.EAGAIN }
