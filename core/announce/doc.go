// Package announce tells an organization's other endpoints what became of one of
// them: that it was disabled or enabled, or that it will be disabled if it goes on
// failing.
//
// An announcement is an event like any other, signed and sent in the same way,
// whose type no producer may publish. It goes to the endpoints that subscribe to
// its type, but not to the one that it is about. It is best effort: what it tells
// of has happened already and stays as it is if the announcement is lost.
package announce
