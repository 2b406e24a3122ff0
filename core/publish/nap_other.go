//go:build !linux

package publish

import "time"

// nap sleeps as finely as Go's timers do; on Linux it does better.
type nap struct{}

func newNap() *nap { return &nap{} }

func (*nap) sleep(d time.Duration) { time.Sleep(d) }

func (*nap) close() {}
