package app

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/redisstore"
)

// lookupTimeout bounds the look-up of Redis's name at the start.
const lookupTimeout = 2 * time.Second

// maxOwn bounds what a process announces as its own: a machine may have any number
// of interfaces.
const maxOwn = 64

// ownInterval is how often the addresses of the other processes are read. They are
// announced as often, and at once when a process has started.
const ownInterval = 15 * time.Second

// ownAddresses returns where Redis and listeners of this process are, which no
// delivery may reach even where SEALPOST_ALLOW_NETS opens their network. What it
// cannot know is left out: the nodes that a Cluster or Sentinel names later, a name
// that does not resolve at the start.
func ownAddresses(ctx context.Context, redisURL string, listeners ...string) ([]netip.AddrPort, error) {
	options, err := redisstore.ParseURL(redisURL)
	if err != nil {
		return nil, badSetting("SEALPOST_REDIS_URL", err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var own []netip.AddrPort
	for _, address := range append(options.Addrs, listeners...) {
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

// keepOff keeps client away from what is Sealpost's own: own, and what every other
// process announces. It reads that once before it returns, so that nothing is sent
// before, and goes on reading.
func (b *base) keepOff(ctx context.Context, client *egress.Client, own []netip.AddrPort) {
	for _, addr := range own {
		if !slices.Contains(b.own, addr) {
			b.own = append(b.own, addr)
		}
	}
	if err := b.denyOthers(ctx, client, own); err != nil {
		b.log.Warn("addresses of other processes are not known yet", "error", err)
	}
	b.members.start("own addresses", func(ctx context.Context) error {
		ticker := time.NewTicker(ownInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				_ = b.denyOthers(ctx, client, own) // Redis is away, as others tell; what is known stays
			}
		}
	})
}

// denyOthers reads what the other processes announce.
func (b *base) denyOthers(ctx context.Context, client *egress.Client, own []netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	processes, _, err := b.store.Processes(ctx)
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // of none the same is said by everybody who has none
	client.Deny(slices.Concat(own, announcedAddresses(processes, host)))
	return nil
}

// announcedAddresses returns the addresses of all processes that can be reached from
// host. Another machine's loopback addresses are not those of this one.
func announcedAddresses(processes []redisstore.Process, host string) (own []netip.AddrPort) {
	for i := range processes {
		p := &processes[i]
		for _, addr := range p.Own[:min(len(p.Own), maxOwn)] {
			if p.Host == host || !addr.Addr().IsLoopback() {
				own = append(own, addr)
			}
		}
	}
	return own
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
