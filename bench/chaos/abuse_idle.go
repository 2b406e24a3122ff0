package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleConnections are more than a gateway takes.
	idleConnections = mostConnections + 400

	// ownFiles is how many files the harness needs beside idle connections: good
	// clients, receivers, proxies.
	ownFiles = 1500

	idleRate = 2500 // connections a second, until they are all there
)

// idle opens more connections than the gateway takes and, where that was served,
// makes one request on each and then none. What is refused comes again.
func idle(ctx context.Context, a *attack) error {
	n := a.w.times(min(idleConnections, max(fileLimit()-ownFiles, 100)), 500)
	var open, refused, settled atomic.Int64
	request := "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
	var wg sync.WaitGroup
	a.crowd(ctx, &wg, n, func(ctx context.Context, i int) {
		// Not all at once: the kernel's queue of connections is what would drop them.
		if sleep(ctx, time.Duration(i)*time.Second/idleRate) != nil {
			return
		}
		settle := sync.OnceFunc(func() { settled.Add(1) })
		for ctx.Err() == nil {
			c, hangUp := a.dial(ctx)
			if c == nil {
				continue
			}
			_, _ = io.WriteString(c, request)
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			switch {
			case err != nil: // refused before the request had been read
			case answer.StatusCode == http.StatusRequestTimeout: // a busy machine: it arrived too late
				_ = answer.Body.Close()
			case answer.StatusCode == http.StatusNotFound:
				_ = answer.Body.Close()
				open.Add(1)
				settle()
				_, _ = io.Copy(io.Discard, c)
				open.Add(-1)
			case answer.StatusCode == http.StatusServiceUnavailable:
				if answer.Header.Get("Retry-After") == "" {
					a.complain("503 without Retry-After")
				}
				_ = answer.Body.Close()
			default:
				a.complain("an idle connection's request was answered %d", answer.StatusCode)
			}
			hangUp()
			if ctx.Err() == nil {
				refused.Add(1)
				settle()
			}
			_ = sleep(ctx, 3*time.Second)
		}
	})
	a.await(ctx, func() bool { return settled.Load() >= int64(n) })
	held, shed := open.Load(), refused.Load()
	a.begin("%d connections, of which %d are held, idle, and %d were shed", n, held, shed)
	wg.Wait()
	if held > mostConnections {
		a.complain("the gateway holds %d connections", held)
	}
	if held < int64(min(n, 1000)/2) {
		a.complain("the gateway holds %d of %d connections only", held, n)
	}
	if n > mostConnections && shed == 0 {
		a.complain("none of %d connections was shed", n)
	}
	return nil
}
