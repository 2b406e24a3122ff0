//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package egress

// alive cannot look at the connection here; a closed one is found out by using
// it, and the request is sent once more.
func (c *conn) alive() bool { return true }
