// Package units writes quantities for people.
package units

import "fmt"

// Bytes writes a number of bytes in the unit that suits it, with one digit behind
// the point: 0.5 KiB, 3.0 MiB.
func Bytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
