package publish

import "testing"

func TestNapIsFine(t *testing.T) {
	t.Parallel()
	n := newNap()
	defer n.close()
	if n.timer == nil {
		t.Error("there is no timer of the system's")
	}
}
