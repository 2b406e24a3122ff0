package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/rawconn"
)

// dial opens a connection to the target: DNS, TCP and TLS, all under the
// attempt's deadline. It returns nil after noting why that failed.
func (a *attempt) dial(generation uint64) *conn {
	ctx, cancel := context.WithDeadline(a.ctx, a.deadline)
	defer cancel()
	raw, err := a.connect(ctx)
	if err != nil {
		a.failDial(ctx, connectReason(err), err)
		return nil
	}
	if !a.target.https {
		return newConn(raw, raw, a.target.key, generation, a.client.now)
	}
	secure, err := a.handshake(ctx, raw)
	if err != nil {
		_ = raw.Close()
		a.failDial(ctx, core.ReasonTLS, err)
		return nil
	}
	return newConn(secure, raw, a.target.key, generation, a.client.now)
}

// connect resolves the name and opens a TCP connection, noting how long each
// took. The dialer tries the addresses as RFC 6555 asks, each one past the guard.
func (a *attempt) connect(ctx context.Context) (net.Conn, error) {
	now := a.client.now // captured without a, which stays on the stack this way
	start := now()
	var resolved atomic.Int64 // ns after start
	trace := &httptrace.ClientTrace{DNSDone: func(httptrace.DNSDoneInfo) {
		resolved.Store(int64(now().Sub(start)))
	}}
	raw, err := a.client.open(httptrace.WithClientTrace(ctx, trace), a.target.host, a.target.addr)
	if err == nil {
		raw = rawconn.Wrap(raw)
	}
	total := now().Sub(start)
	dns := time.Duration(resolved.Load())
	a.result.DNS = dns
	if dnsError := new(net.DNSError); !errors.As(err, &dnsError) {
		a.result.Connect = total - dns
	}
	if err == nil {
		if tcp, ok := raw.RemoteAddr().(*net.TCPAddr); ok {
			a.result.Remote = tcp.AddrPort().Addr().Unmap()
		}
	}
	return raw, err
}

func (a *attempt) handshake(ctx context.Context, raw net.Conn) (net.Conn, error) {
	start := a.client.now()
	defer func() { a.result.TLS = a.client.now().Sub(start) }()
	// The context alone would do, but nothing on this connection is ever to
	// happen without a deadline.
	if err := raw.SetDeadline(a.deadline); err != nil {
		return nil, err
	}
	config := a.client.tls.Clone()
	config.ServerName = a.target.host
	secure := tls.Client(raw, config)
	return secure, secure.HandshakeContext(ctx)
}

// failDial is fail for the phases that run under a context with the deadline,
// which may end a moment before the clock says so.
func (a *attempt) failDial(ctx context.Context, reason core.Reason, err error) {
	if ctx.Err() == context.DeadlineExceeded {
		reason = core.ReasonTimeout
	}
	a.fail(reason, fmt.Errorf("dial: %w", err))
}

// connectReason tells apart what can go wrong before there is a connection.
func connectReason(err error) core.Reason {
	dnsError, addrError := new(net.DNSError), new(net.AddrError)
	switch {
	case errors.Is(err, errBlocked):
		return core.ReasonBlocked
	case errors.As(err, &dnsError), errors.As(err, &addrError): // the latter: the name has no address
		return core.ReasonDNS
	default:
		return core.ReasonConnect
	}
}
