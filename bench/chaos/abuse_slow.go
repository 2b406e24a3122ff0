package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	slowConnections = 2000
	dripEvery       = time.Second

	// mostOpen is how long a request that never ends may keep its connection: the
	// gateway gives it 10 s, the rest is for a busy machine.
	mostOpen = 20 * time.Second
)

// slowRequests keeps 2,000 requests under way that never end, a byte a second: heads,
// bodies with and without a length, with a good API key and with none.
func slowRequests(ctx context.Context, a *attack) error {
	n := a.times(slowConnections, 200)
	kinds := []string{
		"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		a.head("POST", "/api/v1/events", "Content-Length: 200000") + `{"type":"`,
		a.head("POST", "/api/v1/events/batch", "Transfer-Encoding: chunked") + "40000\r\n[",
		"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n",
	}
	var open atomic.Int64
	var wg sync.WaitGroup
	a.crowd(ctx, &wg, n, func(ctx context.Context, i int) {
		if sleep(ctx, time.Duration(i)*time.Millisecond) != nil { // not all at once
			return
		}
		c, hangUp := a.dial(ctx)
		if c == nil {
			return
		}
		defer hangUp()
		open.Add(1)
		defer open.Add(-1)
		began := time.Now()
		drip(c, kinds[i%len(kinds)])
		if took := time.Since(began); took > mostOpen && !a.quick {
			a.complain("a slow request was served for %v", took)
		}
	})
	a.await(ctx, func() bool { return open.Load() >= int64(n*9/10) })
	a.begin("%d connections drip a byte a second", n)
	wg.Wait()
	return nil
}

// drip writes a request's beginning and goes on a byte at a time until its peer has
// enough.
func drip(c net.Conn, beginning string) {
	_, err := io.WriteString(c, beginning)
	for buf := make([]byte, 1024); err == nil; {
		_ = c.SetReadDeadline(time.Now().Add(dripEvery))
		n, rerr := c.Read(buf)
		if timeout, ok := rerr.(net.Error); rerr != nil && (!ok || !timeout.Timeout()) {
			return
		}
		if n == 0 {
			_, err = io.WriteString(c, "a")
		}
	}
}

// head returns the head of a request with the attackers' API key.
func (a *attack) head(method, path string, headers ...string) string {
	s := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n", method, path, a.key)
	for _, h := range headers {
		s += h + "\r\n"
	}
	return s + "\r\n"
}

// await waits until the attack is under way, half a minute at most.
func (a *attack) await(ctx context.Context, reached func() bool) {
	for end := time.Now().Add(30 * time.Second); !reached(); {
		if time.Now().After(end) {
			a.complain("the attack is not under way after half a minute")
			return
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return
		}
	}
}
