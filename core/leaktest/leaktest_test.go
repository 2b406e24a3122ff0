package leaktest

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Run(m)) }

// tests are some that end with a status.
type tests func() int

func (t tests) Run() int { return t() }

// TestFindsALeak: tests that pass and leave a goroutine behind have failed, those
// whose goroutines end, be it with what they share, have not.
func TestFindsALeak(t *testing.T) {
	for _, tt := range []struct {
		name         string
		status, want int
		ends         bool
	}{
		{"passed, leaks", 0, 1, false},
		{"passed, ends", 0, 0, true},
		{"failed, leaks", 2, 2, false},
		{"failed, ends", 2, 2, true},
	} {
		stop, stopped := make(chan struct{}), make(chan struct{})
		end := func() { close(stop); <-stopped }
		var out bytes.Buffer
		leave := tests(func() int {
			go waitsForever(stop, stopped)
			return tt.status
		})
		var ends []func()
		if tt.ends {
			ends = append(ends, end)
		}
		if got := run(&out, leave, ends); got != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, got, tt.want)
		}
		if named := strings.Contains(out.String(), "waitsForever"); named != (tt.want == 1) {
			t.Errorf("%s: says %q", tt.name, &out)
		}
		if !tt.ends {
			end()
		}
	}
}

func waitsForever(stop, stopped chan struct{}) {
	<-stop
	close(stopped)
}
