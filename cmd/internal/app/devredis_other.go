//go:build !linux

package app

import "syscall"

// childAttributes gives the child a process group of its own: Ctrl-C is for us,
// and Redis has to outlive our drain. If we are killed it stays behind, and the
// next start ends it.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
