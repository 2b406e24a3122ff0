//go:build unix

package app

import (
	"syscall"
	"time"
)

// spentCPU returns the CPU time of this process so far.
func spentCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
