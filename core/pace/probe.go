package pace

import "time"

// maxProbeInterval is the longest wait between two probes: how late a return is
// noticed at most.
const maxProbeInterval = 30 * time.Second

// ProbeInterval returns the wait after n failed probes: min(30 s, 1 s · 2^n).
func ProbeInterval(n int) time.Duration {
	wait := time.Second
	for range n {
		if wait *= 2; wait >= maxProbeInterval {
			return maxProbeInterval
		}
	}
	return wait
}
