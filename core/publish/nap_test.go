package publish

import (
	"testing"
	"time"
)

// A nap lasts at least as long as it should, again and again, and so does one that
// can do no better than Go's timers.
func TestNap(t *testing.T) {
	t.Parallel()
	fine, coarse := newNap(), &nap{}
	for _, n := range []*nap{fine, coarse} {
		for range 20 {
			start := time.Now()
			n.sleep(lingerTime)
			if took := time.Since(start); took < lingerTime {
				t.Fatalf("slept %v; want at least %v", took, lingerTime)
			}
		}
		n.close()
	}
}
