//go:build linux && !race && !386

package rawconn

import (
	"io"
	"syscall"
	"unsafe"
)

// maxTransfer is what one system call moves at most, as in package net: 1 GiB.
const maxTransfer = 1 << 30

// Read is read(2) on the descriptor of a socket of package net. It returns 0
// bytes at the end, and syscall.EAGAIN when there is nothing to be read yet. b
// must not be empty.
func Read(fd uintptr, b []byte) (int, error) {
	return call(syscall.SYS_READ, fd, b)
}

// Write is write(2), likewise. It returns syscall.EAGAIN when there is no room yet.
func Write(fd uintptr, b []byte) (int, error) {
	n, err := call(syscall.SYS_WRITE, fd, b)
	if n == 0 && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Quiet reports whether the connection is open and has nothing to be read. Nothing
// is taken from it.
func Quiet(fd uintptr) bool {
	var b [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1,
		syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return errno == syscall.EAGAIN
}

func call(number, fd uintptr, b []byte) (int, error) {
	b = b[:min(len(b), maxTransfer)]
	for {
		n, _, errno := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
