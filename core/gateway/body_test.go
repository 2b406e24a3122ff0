package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
)

// head returns a request head for POST /api/v1/events with more headers.
func (f *fixture) head(headers ...string) string {
	return "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + f.key + "\r\n" + strings.Join(append(headers, "", ""), "\r\n")
}

// raw is a connection on which requests are written by hand.
type raw struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (f *fixture) raw() *raw {
	c := f.dial()
	return &raw{t: f.t, Conn: c, r: bufio.NewReader(c)}
}

func (c *raw) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// answer reads one response.
func (c *raw) answer() *answer {
	c.t.Helper()
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("read body: %v", err)
	}
	return &answer{t: c.t, what: "raw request", Response: response, body: string(body)}
}

// closed fails the test unless the server closes the connection now.
func (c *raw) closed() {
	c.t.Helper()
	if b, err := io.ReadAll(c.r); len(b) > 0 {
		c.t.Errorf("another answer instead of the end: %.200q (%v)", b, err)
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		c.t.Error("the connection is still open")
	}
}

func TestChunkedBodies(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.raw()
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for range 2 { // the connection stays usable
		c.write(f.head("Transfer-Encoding: chunked", "X-Words: content-length: 5") + chunk(goodEvent[:10]) + chunk(goodEvent[10:]) + "0\r\n\r\n")
		c.answer().want(202, "")
	}
	large := strings.Repeat("x", 200<<10)
	c.write(f.head("Transfer-Encoding: chunked") + chunk(`{"type":"call.qualified","data":"`) + chunk(large) + chunk(`"}`) + "0\r\n\r\n")
	c.answer().want(202, "")
	if got := len(f.publisher.last(t).Items[0].Body); got < len(large) {
		t.Errorf("%d bytes arrived", got)
	}
	c.write(f.head("Transfer-Encoding: chunked") + chunk(large) + chunk(large) + "0\r\n\r\n")
	c.answer().want(413, core.CodeTooLarge)
	c.write(f.head("Content-Length: "+fmt.Sprint(len(goodEvent))) + goodEvent) // drained, and goes on
	c.answer().want(202, "")
	c.write(f.head("Transfer-Encoding: chunked") + "zz\r\n")
	c.answer().want(400, core.CodeBadRequest)
	c.closed()
}

// Bytes of a request live in a buffer that the next one overwrites: nothing that
// was published may point into it.
func TestPublishedBytesAreCopies(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"small": 500, "in large buffers": 2 * keepBody} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			publishCopies(t, size)
		})
	}
}

func publishCopies(t *testing.T, size int) {
	f := setup(t)
	f.publisher.publishFunc = func(*publish.Request) ([]byte, error) { return []byte(`{}`), nil }
	c := f.raw()
	var want []string
	for i := range 50 {
		event := fmt.Sprintf(`{"id":"id-%02d","timestamp":"2026-01-01T00:00:%02dZ","type":"call.qualified","data":"%s"}`, i, i, strings.Repeat(fmt.Sprint(i%10), size))
		key := fmt.Sprintf("key-%02d", i)
		c.write(f.head("Idempotency-Key: "+key, "Content-Length: "+fmt.Sprint(len(event))) + event)
		c.answer().want(202, "")
		want = append(want, fmt.Sprintf("acme %s id-%02d {\"type\":\"call.qualified\",\"timestamp\":\"2026-01-01T00:00:%02dZ\",\"data\":\"%s\"}", key, i, i, strings.Repeat(fmt.Sprint(i%10), size)))
	}
	for i, r := range f.publisher.requests {
		got := fmt.Sprintf("%s %s %s %s", r.Organization, r.Key, r.Items[0].ID, r.Items[0].Body)
		if got != want[i] {
			t.Fatalf("request %d became %.100s", i, got)
		}
	}
	if n := len(f.server.large); n != maxLarge {
		t.Errorf("%d of %d large buffers came back", n, maxLarge)
	}
}

// TestLargeBodies: as many as there are, are lent, and each comes back, whatever became
// of its request.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	l := newLargeBodies()
	small := []byte("small")
	var lent [][]byte
	for range maxLarge {
		body, ok := l.lend(small)
		if !ok || string(body) != "small" || cap(body) != maxBatchBody+1 {
			t.Fatalf("lent: %t, %d bytes of room", ok, cap(body))
		}
		lent = append(lent, body)
	}
	if body, ok := l.lend(small); ok || &body[0] != &small[0] {
		t.Error("one more than there are was lent")
	}
	l.giveBack(lent[0])
	if body, ok := l.lend([]byte("x")); !ok || string(body) != "x" || &body[0] != &lent[0][0] {
		t.Error("a buffer that came back is not lent again")
	}

	f := setup(t)
	f.publisher.publishFunc = func(*publish.Request) ([]byte, error) { return []byte(`{}`), nil }
	whole := "[" + strings.Repeat(" ", maxBatchBody-2) + "]"
	for _, tt := range []struct {
		body   string
		status int
		code   core.Code
	}{
		{whole, 202, ""}, {whole + " ", 413, core.CodeTooLarge},
		{"[" + strings.Repeat(" ", 100<<10), 400, core.CodeInvalidJSON}, {strings.Repeat("1", 200<<10), 422, core.CodeInvalid},
	} {
		f.call("POST", "/api/v1/events/batch", tt.body).want(tt.status, tt.code)
		c := f.raw() // and in chunks
		c.write(strings.Replace(f.head("Transfer-Encoding: chunked"), "/events ", "/events/batch ", 1))
		for rest := tt.body; rest != ""; {
			n := min(len(rest), 300<<10)
			c.write(fmt.Sprintf("%x\r\n%s\r\n", n, rest[:n]))
			rest = rest[n:]
		}
		c.write("0\r\n\r\n")
		c.answer().want(tt.status, tt.code)
	}
	if n := len(f.server.large); n != maxLarge {
		t.Errorf("%d of %d large buffers came back", n, maxLarge)
	}
}

func TestRefusedBodiesLeaveTheConnectionInOrder(t *testing.T) {
	t.Parallel()
	f := setup(t)
	smuggled := "GET /api/v1/event-types HTTP/1.1\r\nHost: x\r\n\r\n"
	tests := []struct {
		name, head string
		body       string
		status     int
		code       core.Code
		reusable   bool
	}{
		{"wrong key, small body", "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n", strings.Repeat(smuggled, 3), 401, core.CodeUnauthorized, true},
		{"unknown path, small body", "POST /x HTTP/1.1\r\nHost: x\r\n", smuggled, 404, core.CodeNotFound, true},
		{"GET with a body", "GET /api/v1/event-types HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + f.key + "\r\n", smuggled, 200, "", true},
		{"wrong key, large body", "POST /api/v1/events HTTP/1.1\r\nHost: x\r\n", strings.Repeat(smuggled, 10_000), 401, core.CodeUnauthorized, true},
		{"wrong key, far too large", "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + strings.Repeat(" ", 8<<10), "", 401, core.CodeUnauthorized, false},
		{"compressed", "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nAuthorization: Bearer " + f.key + "\r\n", smuggled, 400, core.CodeBadRequest, false},
		{"far too large", "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + f.key + "\r\nContent-Length: 99999999999\r\n\r\n" + strings.Repeat(" ", 8<<10), "", 413, core.CodeTooLarge, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := f.raw()
			c.t = t
			head := tt.head
			if tt.body != "" {
				head += fmt.Sprintf("Content-Length: %d\r\n\r\n", len(tt.body))
			}
			c.write(head)
			// The server may close before it has read everything.
			_, _ = io.WriteString(c.Conn, tt.body)
			a := c.answer()
			a.t = t
			a.want(tt.status, tt.code)
			if !tt.reusable {
				if !a.Close {
					t.Error("no Connection: close")
				}
				c.closed()
				return
			}
			c.write(smuggled)
			a = c.answer()
			a.t = t
			a.want(401, core.CodeUnauthorized)
		})
	}
}

// A key is judged before the body is here.
func TestKeyBeforeBody(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.raw()
	c.write("POST /api/v1/events/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 5000000\r\n\r\n" + strings.Repeat(" ", 8<<10))
	c.answer().want(401, core.CodeUnauthorized)
	c.closed()
}

// Announced bytes cost nothing, those that arrived are counted, and beyond the
// budget the answer is 503.
func TestBodyBudget(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.MaxBodyBytes = 300 << 10 })
	batch := func(length int, body string) *raw {
		c := f.raw()
		c.write(fmt.Sprintf("POST /api/v1/events/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", f.key, length, body))
		return c
	}
	held := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); f.server.bodies.held.Load() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d bytes held, want %d", f.server.bodies.held.Load(), want)
			}
		}
	}
	const part = 100 << 10
	var slow []*raw
	for i := range 3 {
		slow = append(slow, batch(5<<20, strings.Repeat(" ", part)))
		held(int64(i+1) * part)
	}
	c := batch(3, "[ ]")
	c.answer().want(503, core.CodeUnavailable)
	c.closed()
	slow[0].Close()
	held(2 * part)
	batch(3, "[ ]").answer().want(202, "")
	slow[1].Close()
	slow[2].Close()
	held(0)
}

func TestBodyEndsEarly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, sent := range []int{0, 10, 20 << 10} {
		c := f.raw()
		c.write(f.head("Content-Length: 30000") + strings.Repeat(" ", sent))
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.answer().want(400, core.CodeBadRequest)
		c.closed()
	}
	if len(f.publisher.requests) != 0 {
		t.Error("half an event was published")
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.raw()
	c.write(f.head("Expect: 100-continue", fmt.Sprintf("Content-Length: %d", len(goodEvent))))
	line, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("%q, %v", line, err)
	}
	if line, err = c.r.ReadString('\n'); line != "\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	c.write(goodEvent)
	c.answer().want(202, "")
}

func TestBytesText(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{5 << 20: "5 MiB", 260 << 10: "260 KiB", 1000: "1000 bytes", 1<<20 + 1: "1048577 bytes"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
}
