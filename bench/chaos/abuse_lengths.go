package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// lie is what a client says on one connection, and what an honest parser answers.
type lie struct {
	name     string
	text     string
	statuses []int
}

// lies are requests whose length is lied about, or said twice. Each hides a request
// that would be answered 200 by whoever believes the other length (request
// smuggling, RFC 9112, sections 6 and 11.2).
func (a *attack) lies() []lie {
	hidden := a.head("GET", "/api/v1/event-types")
	post := func(headers ...string) string { return a.head("POST", "/api/v1/events", headers...) }
	size := fmt.Sprintf("Content-Length: %d", len(hidden))
	const chunked = "Transfer-Encoding: chunked"
	refused := []int{400}
	list := []lie{
		{"two honest ones", hidden + hidden, []int{200, 200}},
		{"an empty body", post("Content-Length: 0") + hidden, []int{400, 200}},
		{"no body", post() + hidden, []int{400, 200}},
		{"a request as body", post(size) + hidden, refused},
		{"a request as body of GET", a.head("GET", "/api/v1/event-types", size) + hidden, []int{200}},
		{"a request as body of DELETE", a.head("DELETE", "/api/v1/webhooks/nothing", size) + hidden, []int{404}},
		{"a request as chunk", post(chunked) + fmt.Sprintf("%x\r\n", len(hidden)) + hidden + "\r\n0\r\n\r\n", refused},
		{"a request as chunk of GET", a.head("GET", "/api/v1/event-types", chunked) + fmt.Sprintf("%x\r\n", len(hidden)) + hidden + "\r\n0\r\n\r\n", []int{200}},
		{"upper case", post("TRANSFER-ENCODING: CHUNKED") + "0\r\n\r\n" + hidden, []int{400, 200}},
		{"behind the end", a.head("GET", "/api/v1/event-types", "Connection: close") + hidden, []int{200}},
		{"behind HTTP/1.0", strings.Replace(hidden, "HTTP/1.1", "HTTP/1.0", 1) + hidden, []int{200}},
		{"an upgrade", a.head("GET", "/api/v1/event-types", "Connection: Upgrade", "Upgrade: h2c") + hidden, []int{200, 200}},
		{"trailers", post(chunked) + "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + hidden, refused},
		{"less than announced", post("Content-Length: 100000") + hidden, refused},
		{"a chunk less than announced", post(chunked) + "fffff\r\n" + hidden, refused},
	}
	for name, headers := range map[string]string{
		"length, chunked": size + "\r\n" + chunked, "chunked, length": chunked + "\r\n" + size,
		"two lengths": "Content-Length: 0\r\n" + size, "two lengths, other order": size + "\r\nContent-Length: 0",
		"a list of lengths": "Content-Length: 0, " + size[16:], "a signed length": "Content-Length: +5", "a hexadecimal length": "Content-Length: 0x10",
		"a negative length": "Content-Length: -5", "no length": "Content-Length:", "a length with a blank": "Content-Length: 1 0",
		"a length beyond 64 bits": "Content-Length: 99999999999999999999", "a length that wraps": "Content-Length: 18446744073709551616",
		"a length with a line feed": "Content-Length: 0\n 5", "a folded length": "Content-Length:\r\n 5", "a folded coding": "Transfer-Encoding:\r\n chunked",
		"a blank before the colon": "Content-Length : 5", "a blank before the colon of a coding": "Transfer-Encoding : chunked",
		"a blank before the name": " Content-Length: 5", "a tab before the name": "X: y\r\n\tTransfer-Encoding: chunked",
		"two codings": chunked + "\r\nTransfer-Encoding: identity", "a list of codings": "Transfer-Encoding: gzip, chunked", "chunked twice": chunked + "\r\n" + chunked,
		"chunked first": "Transfer-Encoding: chunked, identity", "no coding": "Transfer-Encoding:", "identity": "Transfer-Encoding: identity",
		"an unknown coding": "Transfer-Encoding: xchunked", "a quoted coding": `Transfer-Encoding: "chunked"`, "a coding with a vertical tab": "Transfer-Encoding: \x0bchunked",
		"a coding with a null": "Transfer-Encoding: chunked\x00", "a null in a name": "Content\x00Length: 5", "a carriage return": "X: y\rTransfer-Encoding: chunked",
		"no colon": "Content-Length 5", "an empty name": ": 5",
	} {
		list = append(list, lie{name, post(headers) + "0\r\n\r\n" + hidden, refused})
	}
	for name, chunk := range map[string]string{
		"a negative chunk": "-1\r\n", "a chunk beyond 64 bits": "fffffffffffffffff\r\n", "a chunk that wraps": "10000000000000000\r\n", "a chunk with 0x": "0x0\r\n\r\n", "no chunk size": "\r\n",
		"a chunk without its line break": "1\r\nxx0\r\n\r\n", "a chunk longer than its data": "1\r\n\r\n0\r\n\r\n", "a line feed in an extension": "0;a\nb\r\n\r\n", "a carriage return in an extension": "0;a\rb\r\n\r\n",
		"a signed chunk": "+0\r\n\r\n", "a chunk with an underscore": "0_0\r\n\r\n", "line feeds alone": "0\n\n",
	} {
		list = append(list, lie{name, post(chunked) + chunk + hidden, refused})
	}
	slices.SortFunc(list, func(a, b lie) int { return strings.Compare(a.name, b.name) })
	return list
}

// lyingLengths has many connections announce far more than they send, and others say
// contradictory things: each answer must be that of an honest parser.
func lyingLengths(ctx context.Context, a *attack) error {
	lies := a.lies()
	announcers := a.times(1000, 100)
	announced := []string{
		a.head("POST", "/api/v1/events/batch", "Content-Length: 5242880") + "[",
		a.head("POST", "/api/v1/events/batch", "Content-Length: 9223372036854775807") + "[",
		a.head("POST", "/api/v1/events/batch", "Transfer-Encoding: chunked") + "500000\r\n[",
		a.head("POST", "/api/v1/events", "Content-Length: 262144") + strings.Repeat(" ", 20_000),
		"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 16777216\r\n\r\n",
	}
	var open atomic.Int64
	var wg sync.WaitGroup
	a.crowd(ctx, &wg, announcers, func(ctx context.Context, i int) {
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
		_, _ = io.WriteString(c, announced[i%len(announced)])
		_, _ = io.Copy(io.Discard, c)
	})
	const liars = 8
	a.crowd(ctx, &wg, liars, func(ctx context.Context, i int) {
		for n := range lies {
			l := lies[(n+i*len(lies)/liars)%len(lies)]
			if statuses, err := a.say(ctx, []byte(l.text)); err == nil && !slices.Equal(statuses, l.statuses) {
				a.complain("%s: answered %v, want %v", l.name, statuses, l.statuses)
			}
			_ = sleep(ctx, floodEvery/8)
		}
	})
	a.await(ctx, func() bool { return open.Load() >= int64(announcers*2/5) }) // what is too long is refused at once
	a.begin("%d connections announce up to 8 EiB, %d kinds of lies", announcers, len(lies))
	wg.Wait()
	return nil
}
