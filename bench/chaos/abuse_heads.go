package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// floodEvery is the pause of each flooder between two requests: a flood that takes
// all CPU time proves nothing about memory.
const floodEvery = 400 * time.Millisecond

// headerFloods sends heads of as many, as long and as many different headers as
// will go, and some that never end.
func headerFloods(ctx context.Context, a *attack) error {
	const flooders = 64
	different := "GET /nowhere HTTP/1.1\r\nHost: x\r\n"
	for i := range 900 {
		different += fmt.Sprintf("a%d:\r\n", i)
	}
	line := "X-Flood: " + strings.Repeat("x", 1000) + "\r\n"
	kinds := []struct {
		name    string
		request func(i int) string
		status  int
	}{
		{"many headers", func(int) string {
			return "GET /nowhere HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:\r\n", 1900) + "\r\n"
		}, 404},
		{"many different headers", func(int) string { return different + "\r\n" }, 404},
		{"a long cookie", func(int) string {
			return a.head("GET", "/api/v1/event-types", "Cookie: "+strings.Repeat("a=b; ", 1400))
		}, 200},
		{"made-up keys", func(i int) string {
			return fmt.Sprintf("GET /api/v1/event-types HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s%06d\r\n\r\n", a.key[:len(a.key)-6], i%1_000_000)
		}, 401},
		{"many authorizations", func(int) string {
			return "GET /api/v1/event-types HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("Authorization: Bearer sp_x\r\n", 250) + "\r\n"
		}, 401},
		{"long ids", func(int) string {
			return a.head("GET", "/api/v1/event-types", "X-Request-Id: "+strings.Repeat("x", 3000), "traceparent: "+strings.Repeat("0", 2000), "tracestate: "+strings.Repeat("a=b,", 500))
		}, 200},
		{"a long path", func(int) string { return "GET /" + strings.Repeat("%41", 2500) + " HTTP/1.1\r\nHost: x\r\n\r\n" }, 404},
		{"headers without end", func(int) string { return "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat(line, 64) }, 431},
		{"a header without end", func(int) string { return "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 64<<10) }, 431},
	}
	var wg sync.WaitGroup
	a.crowd(ctx, &wg, flooders, func(ctx context.Context, i int) {
		for n := i; ctx.Err() == nil; n++ {
			k := kinds[n%len(kinds)]
			if statuses, err := a.say(ctx, []byte(k.request(n*flooders+i))); err == nil && !slices.Equal(statuses, []int{k.status}) {
				a.complain("%s: answered %v, want %d", k.name, statuses, k.status)
			}
			_ = sleep(ctx, floodEvery)
		}
	})
	a.begin("%d clients, %d kinds of heads", flooders, len(kinds))
	wg.Wait()
	return nil
}

// say sends bytes on a connection of their own, ends its side, and returns the
// statuses of all answers, interim ones left out. An error says that ctx has ended
// or the connection was reset: then there is nothing to be judged.
func (a *attack) say(ctx context.Context, text []byte) (statuses []int, err error) {
	c, hangUp := a.dial(ctx)
	if c == nil {
		return nil, context.Cause(ctx)
	}
	defer hangUp()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(text); err == nil {
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	} // else it was refused before its end, and the answer is there
	for r := bufio.NewReader(c); ; {
		answer, err := http.ReadResponse(r, nil)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err == io.EOF || err == io.ErrUnexpectedEOF && len(statuses) > 0:
			return statuses, nil
		case err != nil:
			return statuses, err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode >= 200 {
			statuses = append(statuses, answer.StatusCode)
		}
		if err != nil {
			return statuses, err
		}
	}
}
