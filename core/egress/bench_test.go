package egress

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
	"time"
)

// fastServer starts a server that answers every size bytes that come, without
// looking at them, so that what is measured is the client.
func fastServer(t testing.TB, size *int) *server {
	return serve(t, func(_ *server, c net.Conn) {
		r, response := bufio.NewReaderSize(c, 64<<10), []byte(okResponse)
		for {
			if _, err := r.Discard(*size); err != nil {
				return
			}
			if _, err := c.Write(response); err != nil {
				return
			}
		}
	})
}

// fastPost returns a function that posts a body of size bytes to a fast server.
func fastPost(t testing.TB, size int) func(context.Context) Result {
	var length int
	c := newClient(t)
	target := mustTarget(t, fastServer(t, &length).url("/"))
	header, body := "webhook-id: evt_1\r\n", bytes.Repeat([]byte("x"), size)
	length = len(target.head) + len(c.fixed) + len(fmt.Sprint(size)) + len("\r\n") + len(header) + len("\r\n") + size
	compose := func(m *Message) error {
		m.Header = append(m.Header, header...)
		m.Body = body
		return nil
	}
	return func(ctx context.Context) Result { return c.Post(ctx, time.Now(), patience, target, compose) }
}

// TestPostAllocatesNothing holds for a connection used before and a context that
// is never cancelled, which is how the sender calls it.
func TestPostAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items under the race detector")
	}
	post := fastPost(t, 1024)
	ctx := context.Background()
	if r := post(ctx); r.Status != 200 {
		t.Fatalf("got %s", r.brief())
	}
	if n := testing.AllocsPerRun(100, func() { post(ctx) }); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkPost(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			post := fastPost(b, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if r := post(context.Background()); r.Status != 200 {
						b.Errorf("got %s", r.brief())
						return
					}
				}
			})
		})
	}
}
