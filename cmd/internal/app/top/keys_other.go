//go:build !unix

package top

import "time"

// canPoll says that quitPressed cannot see keys: only Ctrl-C ends.
const canPoll = false

// quitPressed waits for d.
func (t *Terminal) quitPressed(d time.Duration) bool {
	time.Sleep(d)
	return false
}
