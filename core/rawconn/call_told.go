//go:build (linux && (race || 386)) || darwin || freebsd || netbsd || openbsd || dragonfly

package rawconn

import "syscall"

// Here the calls go through package syscall. The race detector learns in there that
// what comes before a write comes before what follows the read of it; Linux on 386
// and some of the other systems have no such calls to be made directly.

func read(fd uintptr, b []byte) (int, error) { return syscall.Read(int(fd), b) }

func write(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }

func peek(fd uintptr) error {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err
}
