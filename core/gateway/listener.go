package gateway

import (
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/rawconn"
)

// refuseTimeout bounds the write of a refusal. It is a few hundred bytes into
// an empty socket buffer, so it never waits in practice.
const refuseTimeout = 100 * time.Millisecond

// acceptPause is the wait before another try when no connection can be taken.
const acceptPause = 50 * time.Millisecond

// limitListener refuses connections beyond the server's MaxConns with a problem
// document. fasthttp's own refusal would be plain text. That idle connections are
// probed (TCP keep-alive, 15 s) is package net's default for what it accepts;
// fasthttp's option for it does not reach raw connections.
type limitListener struct {
	net.Listener
	server *Server
}

// Accept returns the next connection that is within the limit. It waits while no
// more files can be opened: fasthttp would take that for the end of the listener,
// and whoever opens many connections could end the server.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
		case passes(err):
			l.server.o.Logger.Error("cannot take connections", "error", err)
			time.Sleep(acceptPause)
			continue
		default:
			return nil, err
		}
		if int(l.server.http.GetOpenConnectionsCount()) < l.server.o.MaxConns {
			return rawconn.Wrap(c), nil
		}
		l.refuse(c)
	}
}

// passes reports whether an error of accept(2) says that there is no room just now,
// or that a caller hung up before its turn.
func passes(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (l *limitListener) refuse(c net.Conn) {
	l.server.metrics.refusedConns.Inc()
	id := newRequestID()
	p := newProblem(core.Unavailable("too many connections are open", nil), id)
	body := p.encode()
	head := "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: " + problemType +
		"\r\nRetry-After: 1\r\nX-Request-Id: " + id + "\r\n"
	_ = c.SetWriteDeadline(time.Now().Add(refuseTimeout))
	_, _ = c.Write(appendContentLength([]byte(head), body))
	_ = c.Close()
}
