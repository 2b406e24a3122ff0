// Package rawconn reads and writes sockets by system calls that Go's scheduler
// is not told of.
//
// The scheduler wants to know of every system call, so that it can give the
// processor to others should the call block; and the first one after a pause wakes
// its monitor thread (sysmon), which then looks around every 20 µs until it finds
// everything idle. A process that handles an event now and then idles and goes on
// several times for each: that was a quarter to a third of the CPU time of gateway
// and sender at 200 events/s (docs/PERFORMANCE.md). But the sockets of package net
// do not block, so there is nothing that the scheduler had to know.
//
// The monitor also interrupts who computes for more than 10 ms while others wait.
// It sleeps only after it has found everything idle, until the first timer that was
// set then, any other system call, or a garbage collection: so after a pause it may
// be that long, in our programs a second, until it does so again. Processors that
// have nothing to do help themselves to what waits meanwhile.
//
// Nor is the poller told of each deadline, on Linux: a later one than it knows is looked
// at when that has passed.
package rawconn
