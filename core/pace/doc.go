// Package pace decides when an endpoint should be left alone and how fast it is
// sent what waits for it. It is pure: a Circuit judges from the results of
// attempts, a Pace says how many may be in flight and when the next may begin;
// the caller brings the time and keeps them from concurrent use.
package pace
