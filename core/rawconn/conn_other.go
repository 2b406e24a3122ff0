//go:build !linux

package rawconn

import "net"

// Wrap returns c: what is gained was measured on Linux, and not all systems can be
// asked directly.
func Wrap(c net.Conn) net.Conn { return c }
