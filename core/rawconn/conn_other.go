//go:build !linux

package rawconn

import "net"

// Wrap returns c: other systems are asked through their library.
func Wrap(c net.Conn) net.Conn { return c }
