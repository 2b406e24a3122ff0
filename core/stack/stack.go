// Package stack makes the stack of a fresh goroutine as large as its work needs, in one
// step while there is next to nothing on it. Go begins with 2 to 8 KiB, as others need
// on average, and doubles: each time all that is on the stack is looked through and
// copied, which was 7 % of a sender's CPU time.
package stack

// Grow8 makes room for 8 KiB in all.
func Grow8() { _ = grow8(0) }

// Grow16 makes room for 16 KiB in all.
func Grow16() { _ = grow16(0) }

// Stacks are powers of two. What is returned makes the room needed.

//go:noinline
func grow8(i int) byte {
	var room [6 << 10]byte
	return room[i]
}

//go:noinline
func grow16(i int) byte {
	var room [14 << 10]byte
	return room[i]
}
