package egress

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

func TestResponses(t *testing.T) {
	t.Parallel()
	const noContent = "HTTP/1.1 204 No Content\r\n\r\n"
	interim := func(n int) string { return strings.Repeat("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", n) }
	big := strings.Repeat("x", 10<<20)
	tests := []struct {
		name     string
		response string
		closing  bool // the server closes after it
		status   int
		reason   core.Reason
		keep     bool // a second request uses the same connection
	}{
		// Complete responses.
		{name: "content-length", response: okResponse, status: 200, keep: true},
		{name: "empty body", response: "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", status: 202, keep: true},
		{name: "no reason phrase", response: "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", status: 200, keep: true},
		{name: "204 without a body", response: noContent, status: 204, keep: true},
		{name: "304 without a body", response: "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", status: 304, keep: true},
		{name: "chunked", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;ext=1\r\nok\r\n0\r\n\r\n", status: 200, keep: true},
		{name: "chunked with trailer", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n", status: 200, keep: true},
		{name: "ends with the connection", response: "HTTP/1.1 200 OK\r\n\r\nok", closing: true, status: 200},
		{name: "HTTP/1.0", response: "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", closing: true, status: 200},
		{name: "HTTP/1.0 keep-alive", response: "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", status: 200, keep: true},
		{name: "connection: close", response: "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", status: 200},
		{name: "body at the bound", response: "HTTP/1.1 200 OK\r\ncontent-length: 65536\r\n\r\n" + big[:65536], status: 200, keep: true},
		{name: "head near the bound", response: "HTTP/1.1 200 OK\r\nx: " + big[:16000] + "\r\ncontent-length: 0\r\n\r\n", status: 200, keep: true},
		{name: "more than was asked for", response: okResponse + okResponse, status: 200},

		// Every status comes back as it is.
		{name: "redirect is not followed", response: "HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", status: 301, keep: true},
		{name: "400", response: "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", status: 400, keep: true},
		{name: "410", response: "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", status: 410, keep: true},
		{name: "500", response: "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", status: 500, keep: true},
		{name: "999", response: "HTTP/1.1 999 Denied\r\ncontent-length: 0\r\n\r\n", status: 999, keep: true},
		{name: "101 ends HTTP", response: "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", status: 101},

		// Interim responses.
		{name: "100 first", response: "HTTP/1.1 100 Continue\r\n\r\n" + okResponse, status: 200, keep: true},
		{name: "as many interim as allowed", response: interim(maxInterim) + okResponse, status: 200, keep: true},
		{name: "one interim too many", response: interim(maxInterim+1) + okResponse, reason: core.ReasonBadResponse},
		{name: "endless interim", response: interim(100_000), reason: core.ReasonBadResponse},

		// Bodies beyond the bound: the status counts, the connection goes.
		{name: "10 MB", response: "HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n" + big, status: 200},
		{name: "a byte too long", response: "HTTP/1.1 500 Oops\r\ncontent-length: 65537\r\n\r\n" + big[:65537], status: 500},
		{name: "10 MB to the end of the connection", response: "HTTP/1.1 200 OK\r\n\r\n" + big, closing: true, status: 200},
		{name: "10 MB in one chunk", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na00000\r\n" + big + "\r\n0\r\n\r\n", status: 200},
		{name: "endless small chunks", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 1<<20), status: 200},
		{name: "endless chunk extension", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + big, status: 200},
		{name: "endless trailer", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: " + big, reason: core.ReasonBadResponse},

		// Cut off.
		{name: "nothing", response: "", closing: true, reason: core.ReasonConnectionLost},
		{name: "half a status line", response: "HTTP/1.1 2", closing: true, reason: core.ReasonConnectionLost},
		{name: "half a head", response: "HTTP/1.1 200 OK\r\ncontent-le", closing: true, reason: core.ReasonConnectionLost},
		{name: "interim only", response: interim(1), closing: true, reason: core.ReasonConnectionLost},
		{name: "half a body", response: "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", closing: true, reason: core.ReasonConnectionLost},
		{name: "half a chunk", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf", closing: true, reason: core.ReasonConnectionLost},
		{name: "no last chunk", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", closing: true, reason: core.ReasonConnectionLost},

		// Not HTTP/1.x.
		{name: "another protocol", response: "SSH-2.0-OpenSSH_9.2p1\r\n", reason: core.ReasonBadResponse},
		{name: "short garbage", response: "hi", closing: true, reason: core.ReasonBadResponse},
		{name: "HTML alone", response: "<html>hello</html>", reason: core.ReasonBadResponse},
		{name: "empty line first", response: "\r\n" + okResponse, reason: core.ReasonBadResponse},
		{name: "HTTP/2", response: "HTTP/2.0 200 OK\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "HTTP/2 frame", response: "\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80", reason: core.ReasonBadResponse},
		{name: "status of two digits", response: "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "status of four digits", response: "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "status 000", response: "HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "status 099", response: "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "status in words", response: "HTTP/1.1 OK 200\r\ncontent-length: 0\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "header without a colon", response: "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "head too long", response: "HTTP/1.1 200 OK\r\nx: " + big[:17000] + "\r\ncontent-length: 0\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "endless head", response: "HTTP/1.1 200 OK\r\nx: " + big, reason: core.ReasonBadResponse},
		{name: "two lengths", response: "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", reason: core.ReasonBadResponse},
		{name: "negative length", response: "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "length beyond int64", response: "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "unknown transfer coding", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "bad chunk size", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n", reason: core.ReasonBadResponse},
		{name: "chunk longer than it says", response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n", reason: core.ReasonBadResponse},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answering(tt.response, tt.closing))
			c := newClient(t)
			target := mustTarget(t, s.url("/"))
			r := post(c, target)
			if r.Status != tt.status || r.Reason != tt.reason || !r.Started || r.Reused || r.Resent {
				t.Errorf("got %s; want status %d, reason %q", r.brief(), tt.status, tt.reason)
			}
			if (r.Err != nil) != (tt.reason != "") {
				t.Errorf("err = %v with reason %q", r.Err, r.Reason)
			}
			if r = post(c, target); r.Reused != tt.keep {
				t.Errorf("second request: reused = %t, want %t", r.Reused, tt.keep)
			}
		})
	}
}

func TestRetryAfterHeader(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, line, want string }{
		{"none", "", ""},
		{"seconds", "retry-after: 120\r\n", "120"},
		{"date, other case", "RETRY-AFTER: Fri, 31 Dec 1999 23:59:59 GMT\r\n", "Fri, 31 Dec 1999 23:59:59 GMT"},
		{"garbage without end", "retry-after: " + strings.Repeat("9", 1000) + "\r\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answering("HTTP/1.1 429 Slow\r\n"+tt.line+"content-length: 0\r\n\r\n", false))
			r := post(newClient(t), mustTarget(t, s.url("/")))
			if r.Status != 429 || r.RetryAfter != tt.want {
				t.Errorf("status %d, Retry-After %q; want 429, %q", r.Status, r.RetryAfter, tt.want)
			}
		})
	}
}

func TestDisableHeader(t *testing.T) {
	t.Parallel()
	const body = "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
	tests := []struct {
		name, response string
		status         int
		want           bool
	}{
		{"none", "HTTP/1.1 200 OK\r\n" + body, 200, false},
		{"2xx", "HTTP/1.1 200 OK\r\nwebhook-delivery: disable\r\n" + body, 200, true},
		{"204", "HTTP/1.1 204 No Content\r\nwebhook-delivery: disable\r\n\r\n", 204, true},
		{"any case, any spaces", "HTTP/1.1 500 Oops\r\nWEBHOOK-delivery:\t DisAble  \r\n" + body, 500, true},
		{"no body but a switch", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\nwebhook-delivery: disable\r\n\r\n", 101, true},
		{"another value", "HTTP/1.1 200 OK\r\nwebhook-delivery: disabled\r\n" + body, 200, false},
		{"empty", "HTTP/1.1 200 OK\r\nwebhook-delivery:\r\n" + body, 200, false},
		{"long", "HTTP/1.1 200 OK\r\nwebhook-delivery: " + strings.Repeat("disable", 1000) + "\r\n" + body, 200, false},
		{"only of an interim response", "HTTP/1.1 103 Early Hints\r\nwebhook-delivery: disable\r\n\r\nHTTP/1.1 200 OK\r\n" + body, 200, false},
		{"in a trailer", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nwebhook-delivery: disable\r\n\r\n", 200, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answering(tt.response, false))
			c := newClient(t)
			target := mustTarget(t, s.url("/"))
			for range 2 { // what is kept for reuse does not remember
				if r := post(c, target); r.Status != tt.status || r.Disable != tt.want {
					t.Errorf("status %d, disable %t; want %d, %t", r.Status, r.Disable, tt.status, tt.want)
				}
			}
		})
	}
}

// TestEarlyAnswer: a server that answers without reading the body has answered,
// also when it closes and writing the rest fails.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"body in the buffers": 100 << 10, "writing fails": 64 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(_ *server, c net.Conn) {
				var b [1]byte
				if _, err := io.ReadFull(c, b[:]); err == nil {
					io.WriteString(c, "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
				}
			})
			c := newClient(t)
			target := mustTarget(t, s.url("/"))
			r := c.Post(t.Context(), time.Now(), patience, target, func(m *Message) error {
				m.Body = make([]byte, size)
				return nil
			})
			if r.Status != 413 {
				t.Errorf("got %s; want status 413", r.brief())
			}
		})
	}
}
