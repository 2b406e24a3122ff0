package publish

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealpost/sealpost/core/rawconn"
)

// nap sleeps for fractions of a millisecond. Go's own timers wait for whole ones
// where the processor has nothing else to do (runtime.netpoll): with 64 connections
// flushes that were to begin 0.4 ms later cost a tenth of the events/s, with this a
// twenty-fifth (docs/PERFORMANCE.md). Go's scheduler is told of none of its system calls,
// for the reason that package rawconn gives. Where all processors are busy a nap may last
// longer, since Go looks at what is ready when it has nothing else to run.
type nap struct {
	timer *os.File        // a timerfd; nil: there is none
	raw   syscall.RawConn // of timer

	// Of the sleep that is running.
	length unix.ItimerSpec
	armed  bool
	failed bool

	step func(fd uintptr) (done bool)
}

func newNap() *nap {
	n := &nap{}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return n
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	raw, err := timer.SyscallConn()
	if err != nil {
		_ = timer.Close()
		return n
	}
	n.timer, n.raw, n.step = timer, raw, n.wait
	return n
}

// sleep returns after d, below a second. It is called by one goroutine at a time.
func (n *nap) sleep(d time.Duration) {
	if n.timer == nil || d <= 0 {
		time.Sleep(d)
		return
	}
	n.length.Value, n.armed, n.failed = unix.NsecToTimespec(int64(d)), false, false
	if err := n.raw.Read(n.step); err != nil || n.failed {
		time.Sleep(d)
	}
}

// wait arms the timer when Go's poller has begun to look at it, and reads it when it
// has expired.
func (n *nap) wait(fd uintptr) (done bool) {
	if !n.armed {
		n.armed = true
		n.failed = unix.TimerfdSettime(int(fd), 0, &n.length, nil) != nil
		return n.failed
	}
	var expirations [8]byte
	_, err := rawconn.Read(fd, expirations[:])
	n.failed = err != nil && err != syscall.EAGAIN
	return err != syscall.EAGAIN
}

func (n *nap) close() {
	if n.timer != nil {
		_ = n.timer.Close()
	}
}
