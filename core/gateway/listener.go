package gateway

import (
	"net"
	"time"

	"github.com/sealpost/sealpost/core"
)

// refuseTimeout bounds the write of a refusal. It is a few hundred bytes into
// an empty socket buffer, so it never waits in practice.
const refuseTimeout = 100 * time.Millisecond

// limitListener refuses connections beyond the server's MaxConns with a problem
// document. fasthttp's own refusal would be plain text.
type limitListener struct {
	net.Listener
	server *Server
}

// Accept returns the next connection that is within the limit.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if int(l.server.http.GetOpenConnectionsCount()) < l.server.o.MaxConns {
			return c, nil
		}
		l.refuse(c)
	}
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
