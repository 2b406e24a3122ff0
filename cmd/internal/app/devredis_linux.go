package app

import "syscall"

// childAttributes gives the child a process group of its own (Ctrl-C is for us,
// and Redis has to outlive our drain) and lets it end with us, however we end.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
