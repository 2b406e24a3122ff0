//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package gateway

import "math"

// fileLimit returns how many files the process may have open: as many as it likes.
func fileLimit() uint64 { return math.MaxInt32 }
