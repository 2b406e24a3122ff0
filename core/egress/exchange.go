package egress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

const (
	// inlineBody is up to which size a body is copied behind the request head, so
	// that both leave in one write.
	inlineBody = 32 << 10
	// maxKeptRequest is up to which size a request buffer is kept for reuse.
	maxKeptRequest = 64 << 10
)

// scratch is the memory of one exchange.
type scratch struct {
	message Message
	request []byte
	reader  *bufio.Reader
	parser  fasthttp.Response
}

func newScratch() *scratch { return &scratch{reader: bufio.NewReaderSize(nil, maxHeadBytes)} }

func (c *Client) release(s *scratch) {
	s.reader.Reset(nil)
	s.parser.Reset()
	s.message.Body = nil
	if cap(s.request) <= maxKeptRequest && cap(s.message.Header) <= maxKeptRequest {
		c.scratch.Put(s)
	}
}

// exchange sends the request on cn, notes what came of it and disposes of cn.
// stale reports that cn was closed since its last use: nothing else is noted
// then, and cn's place in the pool is the caller's.
func (a *attempt) exchange(cn *conn) (stale bool) {
	s := a.client.scratch.Get().(*scratch)
	defer a.client.release(s)
	if err := cn.begin(a.deadline); err != nil {
		return a.broken(cn, err)
	}
	unhook := func() bool { return true }
	if a.ctx.Done() != nil {
		unhook = context.AfterFunc(a.ctx, cn.abort)
	}
	if err := a.fill(&s.message); err != nil {
		a.result.Err = err
		a.dispose(cn, unhook())
		return false
	}
	// Composing may have waited for Redis. A peer that has closed its side meanwhile
	// need not say so again, and the wait for its response would last to the deadline.
	now := a.client.now()
	if a.result.Reused && now.Sub(a.began) >= aliveWithin && !cn.socket.alive() {
		unhook()
		return a.broken(cn, io.EOF)
	}
	ans, err := a.roundTrip(cn, s, now)
	unhurt := unhook() // else the deadline is not what it was set to
	if err != nil {
		return a.broken(cn, err)
	}
	a.result.Status, a.result.RetryAfter, a.result.Disable = ans.status, ans.retryAfter, ans.disable
	a.dispose(cn, ans.keep && unhurt)
	return false
}

// fill has the message composed.
func (a *attempt) fill(m *Message) error {
	m.Header, m.Body = m.Header[:0], nil
	if err := a.compose(m); err != nil {
		return err
	}
	if n := len(m.Header); n == 1 || n > 1 && string(m.Header[n-2:]) != "\r\n" {
		return errHeaderLines
	}
	return nil
}

func (a *attempt) dispose(cn *conn, keep bool) {
	a.ended = a.client.now()
	if keep {
		a.client.pool.put(cn, a.ended)
	} else {
		a.client.pool.drop(cn)
	}
}

// broken notes why an exchange on cn failed, unless that was because cn is stale.
func (a *attempt) broken(cn *conn, err error) (stale bool) {
	reason := exchangeReason(err)
	// A timeout may mean that the receiver is at work on the request; so does the
	// beginning of a response.
	if a.result.Reused && cn.received == 0 && reason != core.ReasonTimeout && a.ctx.Err() == nil && !a.late(a.client.now()) {
		cn.cut()
		return true
	}
	a.fail(reason, err)
	a.client.pool.drop(cn)
	return false
}

// exchangeReason tells apart what can go wrong on a connection.
func exchangeReason(err error) core.Reason {
	op := new(net.OpError)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, errTimeout):
		return core.ReasonTimeout
	case errors.Is(err, errBadResponse):
		return core.ReasonBadResponse
	case errors.As(err, &op) && op.Op == "remote error":
		// A TLS alert: in TLS 1.3 a server judges our side of the handshake
		// after we consider it done.
		return core.ReasonTLS
	default:
		return core.ReasonConnectionLost
	}
}

// roundTrip writes the request at start, which is now, and reads the response.
func (a *attempt) roundTrip(cn *conn, s *scratch, start time.Time) (answer, error) {
	if err := a.ctx.Err(); err != nil {
		return answer{}, err
	}
	if a.late(start) { // composing took its time
		return answer{}, errTimeout
	}
	a.result.Started = true
	werr := a.write(cn, s)
	if errors.Is(werr, os.ErrDeadlineExceeded) {
		return answer{}, fmt.Errorf("write request: %w", werr)
	}
	// After any other failure there may still be a response: a server that wants
	// no more of the body answers and closes.
	ans, err := receive(cn, s)
	if cn.received > 0 {
		a.result.FirstByte = cn.first.Sub(start)
	}
	switch {
	case err != nil && werr != nil:
		return answer{}, fmt.Errorf("write request: %w", werr)
	case err != nil:
		return answer{}, fmt.Errorf("read response: %w", err)
	}
	ans.keep = ans.keep && werr == nil
	return ans, nil
}

func (a *attempt) write(cn *conn, s *scratch) error {
	m := &s.message
	b := append(s.request[:0], a.target.head...)
	b = append(b, a.client.fixed...)
	b = strconv.AppendInt(b, int64(len(m.Body)), 10)
	b = append(b, "\r\n"...)
	b = append(b, m.Header...)
	b = append(b, "\r\n"...)
	if len(m.Body) <= inlineBody {
		s.request = append(b, m.Body...)
		return cn.writeRequest(s.request)
	}
	s.request = b
	if _, err := cn.Write(b); err != nil {
		return err
	}
	_, err := cn.Write(m.Body)
	return err
}
