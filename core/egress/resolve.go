package egress

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// MaxDNSServers bounds Options.DNSServers: four that are all dead take an attempt
	// 12 s, and the default deadline is 15.
	MaxDNSServers = 4

	// firstWait is how long a name server may take the first time that it is asked for
	// a name; the second time it is twice as long.
	firstWait = time.Second
	dnsRounds = 2
)

// nameServer is one of the operator's own.
type nameServer struct {
	address  string
	resolver *net.Resolver // one a server, so that look-ups of one name at once are one
}

// newNameServers returns a resolver for each address. Whatever the system's
// configuration calls a server, the question goes to that address; the machine's
// hosts file and search list hold still.
func newNameServers(addrs []netip.AddrPort) []nameServer {
	servers := make([]nameServer, len(addrs))
	for i, addr := range addrs {
		address := addr.String()
		servers[i] = nameServer{address: address, resolver: &net.Resolver{
			PreferGo: true,
			Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialServer(ctx, network, address)
			},
		}}
	}
	return servers
}

// dialServer opens the way to a name server for one question and its answer. It is
// closed after firstWait, or once nobody waits for the answer, so that the resolver
// asks again, or ends.
func dialServer(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, firstWait)
	context.AfterFunc(ctx, func() {
		cancel()
		_ = c.Close() // as the resolver does when it is done
	})
	return c, nil
}

// open connects to host at address (host and port). A name is resolved by the
// system, or by the name servers in turn until one answers: each for a second, then
// each for two. An answer is also that there is no such name.
func (c *Client) open(ctx context.Context, host, address string) (net.Conn, error) {
	if _, err := netip.ParseAddr(host); err == nil || len(c.nameServers) == 0 {
		return c.dialer.DialContext(ctx, "tcp", address)
	}
	var failed *net.DNSError
	for round := range dnsRounds {
		silent := false
		for i := range c.nameServers {
			raw, err := c.openBy(ctx, &c.nameServers[i], firstWait<<round, address)
			if !errors.As(err, &failed) || failed.IsNotFound || ctx.Err() != nil {
				return raw, err
			}
			silent = silent || failed.IsTimeout
		}
		if !silent { // they answered that they cannot tell: so they will again
			break
		}
	}
	return nil, failed
}

// openBy is open by one name server, which has to answer within wait, or an equal
// share of the time that is left, with one share for everything after DNS.
func (c *Client) openBy(ctx context.Context, server *nameServer, wait time.Duration, address string) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/time.Duration(len(c.nameServers)+1))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var expired atomic.Bool
	timer := time.AfterFunc(wait, func() {
		expired.Store(true)
		cancel()
	})
	defer timer.Stop()
	dialer := c.dialer
	dialer.Resolver = server.resolver
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{DNSDone: func(httptrace.DNSDoneInfo) { timer.Stop() }})
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		return raw, nil
	}
	host, _, _ := net.SplitHostPort(address)
	if expired.Load() {
		return nil, &net.DNSError{Err: "no answer in time", Name: host, Server: server.address, IsTimeout: true}
	}
	if failed := new(net.DNSError); errors.As(err, &failed) {
		named := *failed // others may have the same one; it names a server that was not asked
		named.Server = server.address
		return nil, &named
	}
	return nil, err
}
