package main

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleConnections are more than a gateway takes.
	idleConnections = mostConnections + 400

	// ownFiles is how many files the process that holds them needs beside.
	ownFiles = 100

	idleRate = 2500 // connections a second, until they are all there
)

// idle opens more connections than the gateway takes and, where that was served,
// makes one request on each and then none. What is refused comes again.
func idle(ctx context.Context, a *attack) error {
	n := a.times(min(idleConnections, max(fileLimit()-ownFiles, 100)), 500)
	var open, shed, settled atomic.Int64
	var wg sync.WaitGroup
	a.crowd(ctx, &wg, n, func(ctx context.Context, i int) { a.hold(ctx, i, &open, &shed, &settled) })
	a.await(ctx, func() bool { return settled.Load() >= int64(n) })
	_ = sleep(ctx, 3*time.Second) // what opening them left to do is done
	held := open.Load()
	a.begin("%d connections, of which %d are held, idle, and %d were shed", n, held, shed.Load())
	if held > mostConnections {
		a.complain("the gateway holds %d connections", held)
	}
	if held < int64(min(n, 1000)/2) {
		a.complain("the gateway holds %d of %d connections only", held, n)
	}
	if n > mostConnections && shed.Load() == 0 {
		a.complain("none of %d connections was shed", n)
	}
	wg.Wait()
	return nil
}

// hold keeps connection i open.
func (a *attack) hold(ctx context.Context, i int, open, shed, settled *atomic.Int64) {
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
		_, _ = io.WriteString(c, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
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
			shed.Add(1)
			settle()
		}
		_ = sleep(ctx, 2*time.Second+rand.N(2*time.Second)) // not all in one moment
	}
}
