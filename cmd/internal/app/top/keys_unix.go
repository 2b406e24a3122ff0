//go:build unix

package top

import (
	"time"

	"golang.org/x/sys/unix"
)

// canPoll says that quitPressed can see keys.
const canPoll = true

// quitPressed waits for a key, at most for d, and reports whether it ends the
// view. A terminal that is gone ends it too.
func (t *Terminal) quitPressed(d time.Duration) bool {
	if t.before == nil {
		time.Sleep(d)
		return false
	}
	fds := []unix.PollFd{{Fd: int32(t.in.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(d.Milliseconds()))
	if err != nil || n == 0 {
		return err != nil && err != unix.EINTR // a signal is seen elsewhere
	}
	var keys [64]byte
	read, err := t.in.Read(keys[:])
	return err != nil || read == 0 || ends(keys[:read])
}
