package gateway

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/sealpost/sealpost/core"
)

const (
	// firstRead is the buffer that a body of unknown or large length starts
	// with, in bytes. It grows as bytes arrive: what a caller merely announces
	// costs nothing.
	firstRead = 16 << 10

	// maxDrain is how much of a refused request's body is read and dropped, in
	// bytes.
	maxDrain = 16 << 20
)

// bodyBudget bounds the request bodies of the whole process, in bytes that have
// arrived.
type bodyBudget struct {
	max  int64
	held atomic.Int64
}

// take counts n bytes. It reports false, and counts nothing, beyond the bound.
func (b *bodyBudget) take(n int64) bool {
	if b.held.Add(n) > b.max {
		b.held.Add(-n)
		return false
	}
	return true
}

func (b *bodyBudget) give(n int64) {
	if n != 0 {
		b.held.Add(-n)
	}
}

// readBody reads the request's body, of at most limit bytes. It is valid until
// the handler returns.
func (s *Server) readBody(x *exchange, limit int) ([]byte, error) {
	header := &x.ctx.Request.Header
	if encoding := header.ContentEncoding(); len(encoding) > 0 && string(encoding) != "identity" {
		x.ctx.SetConnectionClose()
		return nil, &core.Error{Code: core.CodeBadRequest, Detail: "content-encoding is not supported"}
	}
	length := header.ContentLength() // negative: chunked
	stream := x.ctx.RequestBodyStream()
	if stream == nil || length == 0 {
		return nil, nil
	}
	if length > limit {
		return nil, x.tooLarge(limit)
	}
	body := x.body[:0]
	for {
		if len(body) == cap(body) {
			body = s.spares.grow(body, length)
		}
		n, err := stream.Read(body[len(body):cap(body)])
		if !s.bodies.take(int64(n)) {
			x.ctx.SetConnectionClose()
			return nil, core.Unavailable("too many request bodies are being read", nil)
		}
		x.held += int64(n)
		body = body[:len(body)+n]
		x.body = body
		switch {
		case len(body) > limit:
			return nil, x.tooLarge(limit)
		case err == nil:
		case !errors.Is(err, io.EOF), len(body) < length:
			x.ctx.SetConnectionClose()
			return nil, readError(err)
		default:
			return body, nil
		}
	}
}

// spares are large body buffers for later requests. Left to the garbage collector, a
// few large bodies a second keep it at work all the time, at the cost of everybody.
type spares chan []byte

// maxSpares is how many there are at most, of maxBatchBody at most each.
const maxSpares = 4

// keep takes a buffer that nobody needs any more.
func (s spares) keep(body []byte) {
	if cap(body) > maxBatchBody {
		return
	}
	select {
	case s <- body[:0]:
	default:
	}
}

// grow returns body with room for more: a spare one, or at most double, and no more
// than a declared length needs.
func (s spares) grow(body []byte, length int) []byte {
	if cap(body) >= keepBody {
		select {
		case spare := <-s:
			if cap(spare) > len(body) {
				return append(spare, body...)
			}
		default:
		}
	}
	size := max(2*cap(body), firstRead)
	if length >= 0 {
		size = min(size, length)
	}
	larger := make([]byte, len(body), size)
	copy(larger, body)
	return larger
}

// tooLarge drains what can be drained and returns the error.
func (x *exchange) tooLarge(limit int) error {
	x.drain()
	return &core.Error{Code: core.CodeTooLarge, Detail: fmt.Sprintf("the body is above the limit of %s", bytesText(limit))}
}

// drain reads and drops what is left of the body of a request that is refused,
// so that an honest caller gets to read the answer: closing a connection with
// unread data resets it. It holds no memory to speak of and ends with the time
// that the whole request has. What is longer than maxDrain, or broken, costs
// the connection.
func (x *exchange) drain() {
	stream := x.ctx.RequestBodyStream()
	length := x.ctx.Request.Header.ContentLength()
	if stream == nil || length == 0 || x.ctx.Response.ConnectionClose() {
		return
	}
	if length > maxDrain {
		x.ctx.SetConnectionClose()
	} else if _, err := io.CopyN(io.Discard, stream, maxDrain); !errors.Is(err, io.EOF) {
		x.ctx.SetConnectionClose() // there is still more, or the rest is broken
	}
}

// bytesText writes a number of bytes the way the configuration does.
func bytesText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
