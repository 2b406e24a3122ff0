package egress

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/iotest"
	"time"
)

// said is a connection on which a receiver says what r has, and ends.
type said struct {
	net.Conn
	r io.Reader
}

func (s said) Read(p []byte) (int, error) { return s.r.Read(p) }

// FuzzResponse: whatever a receiver says is an answer or an error that tells whose
// fault it is, within the bounds, and does not depend on how it was cut into packets.
func FuzzResponse(f *testing.F) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.0 204 No Content\r\n\r\n", "HTTP/1.1 503 x\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n\x00",
		"HTTP/1.1 200 OK\r\nWebhook-Delivery: disable\r\n\r\nto the end", "HTTP/1.1 000 \r\n\r\n", "HTTP/2 200\r\n\r\n", "220 smtp.example.com ESMTP\r\n", "",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "HTTP/1.1 200\nA:b\n\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
	} {
		f.Add([]byte(text))
	}
	hear := func(t *testing.T, r io.Reader) (answer, error) {
		cn := &conn{Conn: said{r: r}, now: time.Now}
		a, err := receive(cn, newScratch())
		if most := (maxInterim+1)*maxHeadBytes + maxBodyBytes; cn.received > most {
			t.Fatalf("read %d bytes, at most %d are to be read", cn.received, most)
		}
		return a, err
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		text = text[:min(len(text), maxHeadBytes/2)] // so that both readers meet the same bounds
		a, err := hear(t, bytes.NewReader(text))
		switch {
		case err != nil:
			if !errors.Is(err, errBadResponse) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("error %v says neither that the response is bad nor that the connection ended", err)
			}
		case a.status < 200 && a.status != http.StatusSwitchingProtocols || a.status > 999 || len(a.retryAfter) > maxRetryAfterBytes:
			t.Fatalf("answer %+v", a)
		case a.keep && a.status == http.StatusSwitchingProtocols:
			t.Fatalf("what is no HTTP any more is kept: %+v", a)
		}
		b, slowly := hear(t, iotest.OneByteReader(bytes.NewReader(text)))
		if (err == nil) != (slowly == nil) || a.status != b.status || a.retryAfter != b.retryAfter || a.disable != b.disable {
			t.Fatalf("at once %+v, %v; byte by byte %+v, %v", a, err, b, slowly)
		}
	})
}
