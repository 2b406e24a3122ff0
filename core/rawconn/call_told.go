//go:build (linux && (race || 386)) || darwin || freebsd || netbsd || openbsd || dragonfly

package rawconn

import (
	"errors"
	"io"
	"syscall"
)

// Here the calls go through package syscall. The race detector learns in there that
// what comes before a write comes before what follows the read of it; Linux on 386
// and some of the other systems have no such calls to be made directly.

// Read is read(2) on the descriptor of a socket of package net. It returns 0
// bytes at the end, and syscall.EAGAIN when there is nothing to be read yet. b
// must not be empty.
func Read(fd uintptr, b []byte) (int, error) { return call(syscall.Read, fd, b) }

// Write is write(2), likewise. It returns syscall.EAGAIN when there is no room yet.
func Write(fd uintptr, b []byte) (int, error) {
	n, err := call(syscall.Write, fd, b)
	if n == 0 && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Quiet reports whether the connection is open and has nothing to be read. Nothing
// is taken from it.
func Quiet(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return errors.Is(err, syscall.EAGAIN)
}

func call(f func(fd int, b []byte) (int, error), fd uintptr, b []byte) (int, error) {
	for {
		n, err := f(int(fd), b)
		switch {
		case err == nil:
			return n, nil
		case err != syscall.EINTR:
			return 0, err
		}
	}
}
