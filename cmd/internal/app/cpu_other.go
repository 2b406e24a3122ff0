//go:build !unix

package app

import (
	"errors"
	"time"
)

// spentCPU cannot tell the CPU time of this process.
func spentCPU() (time.Duration, error) { return 0, errors.ErrUnsupported }
