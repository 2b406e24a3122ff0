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
		if len(body) == cap(body) && cap(body) >= keepBody && !x.large {
			body, x.large = s.large.lend(body)
			x.body = body
		}
		if len(body) == cap(body) {
			body = grow(body, length)
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

// largeBodies lends buffers for the largest bodies. Left to the garbage collector, a few
// large bodies a second keep it at work all the time, at the cost of everybody. All
// that there are is in the channel or lent, so that they cost maxLarge*maxBatchBody
// whatever is read into them.
type largeBodies chan []byte // nil: not made yet

// maxLarge is how many there are.
const maxLarge = 4

func newLargeBodies() largeBodies {
	l := make(largeBodies, maxLarge)
	for range maxLarge {
		l <- nil
	}
	return l
}

// lend returns body in a large buffer, which giveBack has to be called for, or as it is
// while all are lent.
func (l largeBodies) lend(body []byte) (large []byte, lent bool) {
	select {
	case large = <-l:
		if large == nil {
			large = make([]byte, 0, maxBatchBody+1) // one more shows that a body is too large
		}
		return append(large, body...), true
	default:
		return body, false
	}
}

func (l largeBodies) giveBack(body []byte) { l <- body[:0] }

// grow returns body with room for more: at most double, and no more than a
// declared length needs.
func grow(body []byte, length int) []byte {
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
