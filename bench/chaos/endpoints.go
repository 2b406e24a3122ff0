package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// hostility is a response that means harm.
type hostility struct {
	name   string
	counts bool // as a delivery: its status is 2xx and its head is fine
	write  func(net.Conn)
}

// hostilities lists them.
func hostilities() []hostility {
	text := func(s string) func(net.Conn) { return func(c net.Conn) { _, _ = io.WriteString(c, s) } }
	// Made once: to compress 20 MB for each answer took 40 % of a core from good clients.
	bomb := sync.OnceValue(func() []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.CopyN(z, zeros{}, 20<<20)
		_ = z.Close()
		return b.Bytes()
	})
	return []hostility{
		{"10 MB body", true, func(c net.Conn) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 10<<20)
			_, _ = io.CopyN(c, zeros{}, 10<<20)
		}},
		{"endless body", true, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			_, _ = io.CopyN(c, zeros{}, 1<<30)
		}},
		{"gzip bomb", true, func(c net.Conn) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", len(bomb()))
			_, _ = c.Write(bomb())
		}},
		{"endless 1xx", false, func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
					return
				}
			}
		}},
		{"many chunk extensions", true, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for again := "1;" + strings.Repeat("a=b;", 1000) + "\r\nx\r\n"; ; {
				if _, err := io.WriteString(c, again); err != nil {
					return
				}
			}
		}},
		{"endless headers", false, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for again := strings.Repeat("a: b\r\n", 1000); ; {
				if _, err := io.WriteString(c, again); err != nil {
					return
				}
			}
		}},
		{"no answer", false, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }},
		{"head a byte a second", false, func(c net.Conn) { drip(c, "HTTP/1.1 200 OK\r\nX-Slow: ") }},
		{"body a byte a second", false, func(c net.Conn) { drip(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n") }},
		{"malformed chunk", false, text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n")},
		{"64 KB of headers", false, text("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Padding: "+strings.Repeat("x", 1000)+"\r\n", 64) + "\r\n")},
		{"no HTTP", false, text("220 smtp.example.com ESMTP\r\n")},
		{"nothing", false, text("")},
	}
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// mostSenderMemory is the largest resident set that hostile responses may lead to, see
// docs/RELIABILITY.md, "Abuse".
const mostSenderMemory = 128 << 20

// hostileResponses has each endpoint of the second stream answer in its own bad way.
func hostileResponses(ctx context.Context, w *world) error {
	w.res.Injected = w.turnHostile()
	err := sleep(ctx, w.long(15*time.Second, 4*time.Second))
	for i, p := range w.stack.Senders {
		peak := p.PeakMemory()
		w.res.Figures[fmt.Sprintf("sender%d_peak_MiB", i)] = float64(peak) / (1 << 20)
		if peak > mostSenderMemory {
			w.broken("sender%d took %d MiB", i, peak>>20)
		}
	}
	w.receiver.turn(nil)
	return err
}

// turnHostile has each endpoint of the second stream answer in its own bad way, and
// returns how many ways there are.
func (w *world) turnHostile() int {
	kinds := hostilities()
	w.receiver.turn(func(stream, endpoint int) answer {
		if stream == 0 {
			return answer{status: 200}
		}
		k := kinds[endpoint]
		if k.counts {
			return answer{status: 200, raw: k.write}
		}
		return answer{raw: k.write}
	})
	return len(kinds)
}

// permanentFailures has all endpoints fail for ever.
func permanentFailures(ctx context.Context, w *world) error {
	w.receiver.turn(func(int, int) answer { return answer{status: 500} })
	w.res.Injected++
	return sleep(ctx, w.long(8*time.Second, 2*time.Second))
}

// allDead checks that each delivery is a dead letter.
func allDead(ctx context.Context, w *world) error {
	s := w.streams[0]
	dead, err := w.deadLetters(ctx, s)
	if err != nil {
		return err
	}
	for i := range dead {
		if accepted := s.books.count(&s.books.accepted); len(dead[i]) < accepted {
			w.broken("endpoint %d has %d dead letters, want %d", i, len(dead[i]), accepted)
		}
	}
	return nil
}
