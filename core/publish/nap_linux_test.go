package publish

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A nap is the system's timer's, and not what it falls back to.
func TestNapIsFine(t *testing.T) {
	t.Parallel()
	n := newNap()
	defer n.close()
	if n.timer == nil {
		t.Fatal("there is no timer of the system's")
	}
	n.length.Value = unix.NsecToTimespec(int64(lingerTime))
	if err := n.raw.Read(n.step); err != nil || n.failed || !n.armed {
		t.Errorf("wait = %v, failed: %t, armed: %t", err, n.failed, n.armed)
	}
}
