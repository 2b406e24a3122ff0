//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import "syscall"

// wantedFiles is what this process and those that it starts may have open: enough
// for every fault.
const wantedFiles = 32_768

// raiseFileLimit has this process and those that it starts open as many files as
// they want, or as many as the system allows.
func raiseFileLimit() {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil || r.Cur >= wantedFiles {
		return
	}
	// A privileged process may go beyond the hard limit.
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: wantedFiles, Max: max(r.Max, wantedFiles)}) != nil {
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: r.Max, Max: r.Max})
	}
}

// fileLimit returns how many files this process may have open.
func fileLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, wantedFiles))
}
