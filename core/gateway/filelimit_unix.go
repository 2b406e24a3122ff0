//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package gateway

import (
	"math"
	"syscall"
)

// fileLimit returns how many files the process may have open. Go has raised the
// soft limit to the hard one at its start.
func fileLimit() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return math.MaxInt32 // accept tells, if it comes to that
	}
	return uint64(r.Cur)
}
