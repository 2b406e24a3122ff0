// Package rawconn reads and writes sockets by system calls that Go's scheduler
// is not told of.
//
// The scheduler wants to know of every system call, so that it can give the
// processor to others should the call block; and the first one after a pause wakes
// its monitor thread (sysmon), which then looks around every 20 µs until it finds
// everything idle. A process that handles an event now and then idles and goes on
// several times for each: a quarter of the CPU time of gateway and sender at 200
// events/s (docs/PERFORMANCE.md). But the sockets of package net do not block, so
// there is nothing that the scheduler had to know.
//
// What the monitor is for goes on: it sleeps only after it has found everything
// idle, and every timer and every other system call wakes it.
package rawconn
