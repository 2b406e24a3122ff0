package app

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/redisstore"
)

// lookupTimeout bounds the look-up of Redis's name at the start.
const lookupTimeout = 2 * time.Second

// ownAddresses returns where Redis and this process's admin listener are, which
// no delivery may reach even where SEALPOST_ALLOW_NETS opens their network. What
// it cannot know is left out: other hosts' admin listeners, the nodes that a
// Cluster or Sentinel names later, a name that does not resolve at the start.
func ownAddresses(ctx context.Context, redisURL, admin string) ([]netip.AddrPort, error) {
	options, err := redisstore.ParseURL(redisURL)
	if err != nil {
		return nil, badSetting("SEALPOST_REDIS_URL", err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var own []netip.AddrPort
	for _, address := range append(options.Addrs, admin) {
		host, portText, err := net.SplitHostPort(address)
		if err != nil {
			continue // a Unix socket: no delivery reaches that
		}
		port, err := strconv.ParseUint(portText, 10, 16)
		if err != nil {
			continue
		}
		for _, ip := range resolve(ctx, host) {
			own = append(own, netip.AddrPortFrom(ip, uint16(port)))
		}
	}
	return own, nil
}

// resolve returns the addresses of host. An unspecified one stands for every
// interface of this machine.
func resolve(ctx context.Context, host string) []netip.Addr {
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified():
		return interfaces()
	case err == nil:
		return []netip.Addr{ip.Unmap()}
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return ips
}

// interfaces returns this machine's own addresses.
func interfaces() []netip.Addr {
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return own
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return own
}
