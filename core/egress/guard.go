package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"code.dny.dev/ssrf"
)

// cloudServers tell every machine of a cloud, at any port, its credentials and
// configuration. They lie within networks that may well be allowed for the sake of
// others in them, and Azure's looks public.
var cloudServers = []netip.AddrPort{
	anyPort("168.63.129.16"),   // Azure's wire server
	anyPort("169.254.169.254"), // almost everybody's
	anyPort("169.254.170.2"),   // AWS, of a container's task
	anyPort("169.254.170.23"),  // AWS, of a pod
	anyPort("100.100.100.200"), // Alibaba
	anyPort("fd00:ec2::254"),   // AWS
	anyPort("fd00:ec2::23"),    // AWS, of a pod
	anyPort("fd20:ce::254"),    // Google
}

func anyPort(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), 0) }

// nat64 is the prefix under which a translator reaches IPv4: the last four bytes are
// the address (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// guard judges addresses. Only public unicast is allowed: IPv4 outside of the
// IANA special-purpose registry, IPv6 within 2000::/3 and outside of it.
type guard struct {
	guardian *ssrf.Guardian
	allow    []netip.Prefix
	denied   atomic.Pointer[[]netip.AddrPort]
}

func newGuard(allow []netip.Prefix, deny []netip.AddrPort) *guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p.Masked())
		} else {
			v6 = append(v6, p.Masked())
		}
	}
	g := &guard{
		// Which ports may be used is for the URL's rules to say.
		guardian: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)),
		allow:    allow,
	}
	g.deny(deny)
	return g
}

// deny replaces the addresses that are refused although their network is allowed,
// except for the clouds', which always are. One that is allowed by itself is not.
func (g *guard) deny(addrs []netip.AddrPort) {
	denied := make([]netip.AddrPort, 0, len(addrs)+len(cloudServers))
	for _, d := range slices.Concat(addrs, cloudServers) {
		d = netip.AddrPortFrom(plain(d.Addr()), d.Port())
		if !g.allows(d.Addr()) {
			denied = append(denied, d)
		}
	}
	g.denied.Store(&denied)
}

// allows reports whether the operator named exactly this address.
func (g *guard) allows(addr netip.Addr) bool {
	return slices.Contains(g.allow, netip.PrefixFrom(addr, addr.BitLen()))
}

// control is a net.Dialer's Control: it runs after DNS for every address that is
// tried, before the first packet leaves.
func (g *guard) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: network %s", errBlocked, network)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: not an address", errBlocked)
	}
	return g.check(ap)
}

// check returns an error that wraps errBlocked if ap may not be reached.
func (g *guard) check(ap netip.AddrPort) error {
	addr := plain(ap.Addr())
	if !addr.IsValid() {
		return fmt.Errorf("%w: not an address", errBlocked)
	}
	// The system takes it for its loopback address, whatever network it is in.
	if addr.IsUnspecified() && !g.allows(addr) {
		return fmt.Errorf("%w: %s is this machine", errBlocked, addr)
	}
	for _, d := range *g.denied.Load() {
		if d.Addr() == addr && (d.Port() == 0 || d.Port() == ap.Port()) {
			return fmt.Errorf("%w: %s is reserved", errBlocked, addr)
		}
	}
	if err := g.guardian.SafeAddr(ap.Addr()); err != nil {
		return fmt.Errorf("%w: %w", errBlocked, err)
	}
	if nat64.Contains(addr) { // allowed, but what is behind it has to be too
		bytes := addr.As16()
		return g.check(netip.AddrPortFrom(netip.AddrFrom4([4]byte(bytes[12:])), ap.Port()))
	}
	return nil
}

// Public reports whether addr is public: what a Client without further permission
// reaches.
func Public(addr netip.Addr) bool {
	return newGuard(nil, nil).check(netip.AddrPortFrom(addr, 0)) == nil
}

// plain returns addr without zone and IPv4 embedding, for comparison.
func plain(addr netip.Addr) netip.Addr { return addr.WithZone("").Unmap() }
