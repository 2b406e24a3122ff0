package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"
)

// azureWireServer answers on every Azure machine with credentials and
// configuration, under an address that looks public.
var azureWireServer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{168, 63, 129, 16}), 0)

// guard judges addresses. Only public unicast is allowed: IPv4 outside of the
// IANA special-purpose registry, IPv6 within 2000::/3 and outside of it.
type guard struct {
	guardian *ssrf.Guardian
	denied   []netip.AddrPort
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
	}
	for _, d := range append(slices.Clone(deny), azureWireServer) {
		d = netip.AddrPortFrom(plain(d.Addr()), d.Port())
		exact := netip.PrefixFrom(d.Addr(), d.Addr().BitLen())
		if !slices.Contains(allow, exact) {
			g.denied = append(g.denied, d)
		}
	}
	return g
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
	for _, d := range g.denied {
		if d.Addr() == addr && (d.Port() == 0 || d.Port() == ap.Port()) {
			return fmt.Errorf("%w: %s is reserved", errBlocked, addr)
		}
	}
	if err := g.guardian.SafeAddr(ap.Addr()); err != nil {
		return fmt.Errorf("%w: %w", errBlocked, err)
	}
	return nil
}

// plain returns addr without zone and IPv4 embedding, for comparison.
func plain(addr netip.Addr) netip.Addr { return addr.WithZone("").Unmap() }
