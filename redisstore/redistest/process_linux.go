package redistest

import "syscall"

// dieWithParent makes the server end when the test binary does, even when that
// is killed or panics and runs no cleanup.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
