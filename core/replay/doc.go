// Package replay works recoveries off: jobs that send an endpoint's dead letters
// again.
//
// A recovery goes on step by step. A step reads the oldest dead letters that are left,
// puts fresh deliveries of their events into the endpoint's backlog, where a drain
// sends them at the endpoint's pace, and then, in one script, removes the dead letters
// and notes how far the recovery is. Any process may make the next step. A crash
// between two of these repeats one step at most: what was put into the backlog by it is
// not put there again, and nothing is lost.
package replay
