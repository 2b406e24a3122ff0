package pace_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/pace"
)

// FuzzCircuit: whatever is noted in whatever order, nothing is found without the
// least that has to be there for it.
func FuzzCircuit(f *testing.F) {
	f.Add([]byte("0a0b0c0d0e0f0g0h0i0j"))
	f.Add([]byte{1, 0, 1, 1, 1, 2, 1, 3, 1, 4, 1, 5, 1, 6, 1, 7, 1, 8, 1, 9})
	f.Add([]byte{4, 8, 4, 16, 4, 24, 4, 32, 4, 40, 3, 8})
	f.Fuzz(func(t *testing.T, script []byte) {
		var c pace.Circuit
		now := epoch
		failures, attempts, slow := 0, 0, 0 // since the last finding: never less than what the circuit counts
		deliveries := make(map[string]bool) // that failed since
		last := ""                          // delivery that failed
		for len(script) >= 2 {
			kind, detail := script[0], script[1]
			script = script[2:]
			now = now.Add(time.Duration(kind>>3) * 250 * time.Millisecond)
			r := pace.Result{Ended: now.Add(-time.Duration(detail>>6) * time.Second), Delivery: strconv.Itoa(int(detail>>2) % 32)}
			r.Began = r.Ended.Add(-time.Duration(detail%4) * 400 * time.Millisecond)
			var found core.State
			switch kind % 8 {
			case 0, 1:
				r.Failed = true
			case 2:
				r.Failed, r.Busy = true, true
			case 3:
				slow++
				if found = c.Overdue(r.Delivery, now); found != "" && found != core.StateSlow {
					t.Fatalf("Overdue found %q", found)
				}
			}
			if kind%8 != 3 {
				attempts++
				if r.Failed {
					failures++
					deliveries[r.Delivery] = true
				}
				if r.Ended.Sub(r.Began) >= pace.SlowAfter {
					slow++
				}
				found = c.Note(r)
			}
			if r.Failed && kind%8 != 3 {
				// What fails again and again is counted once.
				if r.Delivery != last && c.Forgettable(r.Began) {
					t.Fatal("forgettable at once")
				}
				last = r.Delivery
			}
			switch found {
			case "":
			case core.StateThrottled:
				if !r.Busy {
					t.Fatal("throttled by an answer that was not busy")
				}
			case core.StateSlow:
				if slow < pace.SlowToLeave {
					t.Fatalf("slow after %d slow answers", slow)
				}
				slow = 0
			case core.StateFailing:
				if !r.Failed || failures < pace.FailuresToOpen || len(deliveries) < 2 {
					t.Fatalf("opened after %d failures of %d deliveries, %d attempts", failures, len(deliveries), attempts)
				}
				failures, attempts, slow = 0, 0, 0
				clear(deliveries)
			default:
				t.Fatalf("found %q", found)
			}
		}
		if !c.Forgettable(now.Add(time.Hour)) {
			t.Fatal("not forgettable after an hour")
		}
	})
}
