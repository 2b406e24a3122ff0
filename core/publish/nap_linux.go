package publish

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// nap sleeps for fractions of a millisecond. Go's own timers wait for whole ones
// where the processor has nothing else to do (runtime.netpoll): with 64 connections
// flushes that were to begin 0.4 ms later cost a tenth of the events/s, with this a
// twenty-fifth (docs/PERFORMANCE.md).
type nap struct {
	fd    int
	timer *os.File // of fd, for Go's poller; nil: there is none
}

func newNap() *nap {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return &nap{}
	}
	return &nap{fd: fd, timer: os.NewFile(uintptr(fd), "timerfd")}
}

// sleep returns after d, above 0 and below a second. It is called by one goroutine at a time.
func (n *nap) sleep(d time.Duration) {
	if n.timer == nil {
		time.Sleep(d)
		return
	}
	var expirations [8]byte
	err := unix.TimerfdSettime(n.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	if err == nil {
		_, err = n.timer.Read(expirations[:])
	}
	if err != nil {
		time.Sleep(d)
	}
}

func (n *nap) close() {
	if n.timer != nil {
		_ = n.timer.Close()
	}
}
