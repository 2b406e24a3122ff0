// Package leaktest makes a test binary fail when its tests leave goroutines behind.
// Every package that starts goroutines runs its tests through it.
package leaktest

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"go.uber.org/goleak"
)

// Tests is a *testing.M.
type Tests interface{ Run() int }

// Run runs the tests, then ends what they shared, and returns the status to exit
// with. It waits about a second for goroutines that are about to end.
func Run(m Tests, end ...func()) int { return run(os.Stderr, m, end) }

func run(out io.Writer, m Tests, end []func()) int {
	status := m.Run()
	for _, f := range end {
		f()
	}
	http.DefaultClient.CloseIdleConnections() // which it keeps for others
	if err := goleak.Find(lastForever()...); err != nil && status == 0 {
		fmt.Fprintln(out, err)
		return 1
	}
	return status
}

// lastForever lists what libraries leave running. go-redis: a look once a second
// whether an address answers again, which notices the end of its client that late.
// fasthttp: its clock for the Date header and
// the cleaner of the names that its own dialer looked up as long as the process, the
// cleaners of a server's workers and of a client's connections up to ten seconds
// longer than what they clean.
func lastForever() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*TCPDialer).tcpAddrsClean"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
	}
}
