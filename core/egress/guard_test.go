package egress

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sealpost/sealpost/core"
)

// refusedRanges are the networks that may not be reached, as first and last
// address: the IANA special-purpose registries, all IPv6 outside of 2000::/3, and
// the address of Azure's wire server.
var refusedRanges = [][2]string{
	{"0.0.0.0", "0.255.255.255"}, {"10.0.0.0", "10.255.255.255"}, {"100.64.0.0", "100.127.255.255"},
	{"127.0.0.0", "127.255.255.255"}, {"169.254.0.0", "169.254.255.255"}, {"172.16.0.0", "172.31.255.255"},
	{"192.0.0.0", "192.0.0.255"}, {"192.0.2.0", "192.0.2.255"}, {"192.31.196.0", "192.31.196.255"},
	{"192.52.193.0", "192.52.193.255"}, {"192.88.99.0", "192.88.99.255"}, {"192.168.0.0", "192.168.255.255"},
	{"192.175.48.0", "192.175.48.255"}, {"198.18.0.0", "198.19.255.255"}, {"198.51.100.0", "198.51.100.255"},
	{"203.0.113.0", "203.0.113.255"}, {"224.0.0.0", "239.255.255.255"}, {"240.0.0.0", "255.255.255.255"},
	{"168.63.129.16", "168.63.129.16"},
	{"::", "::1"}, {"::7f00:1", "::ffff:ffff"}, {"::ffff:0.0.0.0", "::ffff:255.255.255.255"},
	{"::ffff:0:7f00:1", "::ffff:0:ffff:ffff"}, {"64:ff9b::", "64:ff9b::ffff:ffff"}, {"64:ff9b:1::", "64:ff9b:1:ffff::"},
	{"100::", "100::ffff"}, {"1fff:ffff::", "1fff:ffff::1"}, {"2001::", "2001:1ff:ffff::"}, {"2001:db8::", "2001:db8:ffff::"},
	{"2002::", "2002:ffff::"}, {"2620:4f:8000::", "2620:4f:8000:ffff::"}, {"3fff::", "3fff:fff:ffff::"},
	{"4000::", "5f00::1"}, {"fc00::", "fd00:ec2::254"}, {"fe80::1", "febf:ffff::"}, {"fec0::", "feff:ffff::"}, {"ff00::", "ff02::1"},
}

func TestGuardRefuses(t *testing.T) {
	t.Parallel()
	g := newGuard(nil, nil)
	for _, r := range refusedRanges {
		for _, text := range r {
			addr := netip.MustParseAddr(text)
			network := "tcp6"
			if addr.Is4() {
				network = "tcp4"
			}
			for _, port := range []uint16{80, 443, 6379} {
				if err := g.control(network, netip.AddrPortFrom(addr, port).String(), nil); !errors.Is(err, errBlocked) {
					t.Errorf("%s port %d: %v; want it blocked", addr, port, err)
				}
			}
		}
	}
	// A zone makes no allowed address of it.
	for _, address := range []string{"[fe80::1%eth0]:443", "[::1%lo]:443"} {
		if err := newGuard(loopback, nil).control("tcp6", address, nil); !errors.Is(err, errBlocked) {
			t.Errorf("%s: %v; want it blocked", address, err)
		}
	}
	for _, tt := range [][2]string{{"udp4", "8.8.8.8:53"}, {"unix", "/run/redis.sock"}, {"tcp", "8.8.8.8:443"}, {"tcp4", "example.com:443"}, {"tcp4", "8.8.8.8"}, {"tcp4", ""}} {
		if err := g.control(tt[0], tt[1], nil); !errors.Is(err, errBlocked) {
			t.Errorf("%s %q: %v; want it blocked", tt[0], tt[1], err)
		}
	}
}

// TestGuardAllows looks at the neighbours of the refused ranges, and at any port.
func TestGuardAllows(t *testing.T) {
	t.Parallel()
	g := newGuard(nil, nil)
	for _, text := range []string{
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.15", "168.63.129.17", "8.8.8.8",
		"2000::1", "2001:200::1", "2606:4700:4700::1111", "2620:4f:7fff::1", "3ffe:ffff::1", "2a00:1450:4001::200e",
	} {
		for _, port := range []uint16{1, 443, 65535} {
			if err := g.check(netip.AddrPortFrom(netip.MustParseAddr(text), port)); err != nil {
				t.Errorf("%s port %d: %v", text, port, err)
			}
		}
	}
}

func TestGuardAllowNetsAndDenyAddrs(t *testing.T) {
	t.Parallel()
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	redis := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:6379"), netip.MustParseAddrPort("10.0.0.9:0"), netip.MustParseAddrPort("[::ffff:8.8.4.4]:0")}
	tests := []struct {
		name    string
		allow   []netip.Prefix
		address string
		blocked bool
	}{
		{"inside", prefixes("127.0.0.0/8"), "127.0.0.1:80", false},
		{"inside, host bits set", prefixes("127.1.2.3/8"), "127.9.9.9:80", false},
		{"outside", prefixes("127.0.0.0/8"), "10.0.0.1:80", true},
		{"IPv6 inside", prefixes("fd00::/8"), "[fd00::1]:80", false},
		{"IPv6 is not IPv4", prefixes("127.0.0.0/8"), "[::1]:80", true},
		{"embedded IPv4 is not IPv4", prefixes("127.0.0.0/8"), "[::ffff:127.0.0.1]:80", true},
		{"several lists add up", prefixes("10.0.0.0/8", "192.168.0.0/16", "::1/128"), "192.168.1.1:80", false},
		{"public needs no list", prefixes("10.0.0.0/8"), "8.8.8.8:80", false},
		{"own port inside a network", prefixes("127.0.0.0/8"), "127.0.0.1:6379", true},
		{"another address at the own port", prefixes("127.0.0.0/8"), "127.0.0.2:6379", false},
		{"own port, listed exactly", prefixes("127.0.0.1/32"), "127.0.0.1:6379", false},
		{"own port, listed exactly and by network", prefixes("127.0.0.0/8", "127.0.0.1/32"), "127.0.0.1:6379", false},
		{"own address on any port", prefixes("10.0.0.0/8"), "10.0.0.9:443", true},
		{"own public address", nil, "8.8.4.4:443", true},
		{"Azure inside a network", prefixes("168.63.0.0/16"), "168.63.129.16:80", true},
		{"Azure, listed exactly", prefixes("168.63.129.16/32"), "168.63.129.16:80", false},
		{"Azure, everything allowed", prefixes("0.0.0.0/0", "::/0"), "168.63.129.16:32526", true},
		{"metadata inside a network", prefixes("169.254.0.0/16"), "169.254.169.254:80", true},
		{"metadata beside it", prefixes("169.254.0.0/16"), "169.254.169.253:80", false},
		{"metadata, listed exactly", prefixes("169.254.169.254/32"), "169.254.169.254:80", false},
		{"metadata of IPv6 inside a network", prefixes("fd00::/8"), "[fd00:ec2::254]:80", true},
		{"metadata, IPv4 within IPv6", prefixes("::/0", "0.0.0.0/0"), "[::ffff:169.254.169.254]:80", true},
		{"Alibaba's inside a network", prefixes("100.64.0.0/10"), "100.100.100.200:80", true},
		{"unspecified inside a network", prefixes("0.0.0.0/0", "::/0"), "0.0.0.0:6379", true},
		{"unspecified IPv6 inside a network", prefixes("0.0.0.0/0", "::/0"), "[::]:80", true},
		{"unspecified, IPv4 within IPv6", prefixes("0.0.0.0/0", "::/0"), "[::ffff:0.0.0.0]:80", true},
		{"own port, IPv4 within IPv6", prefixes("0.0.0.0/0", "::/0"), "[::ffff:127.0.0.1]:6379", true},
		{"translated public address", prefixes("64:ff9b::/96"), "[64:ff9b::8.8.8.8]:443", false},
		{"translated loopback address", prefixes("64:ff9b::/96"), "[64:ff9b::127.0.0.1]:443", true},
		{"translated metadata", prefixes("64:ff9b::/96", "169.254.0.0/16"), "[64:ff9b::169.254.169.254]:80", true},
		{"translated own address", prefixes("64:ff9b::/96", "10.0.0.0/8"), "[64:ff9b::10.0.0.9]:80", true},
		{"translated inside a network", prefixes("64:ff9b::/96", "10.0.0.0/8"), "[64:ff9b::10.0.0.8]:80", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := newGuard(tt.allow, redis).check(netip.MustParseAddrPort(tt.address))
			if errors.Is(err, errBlocked) != tt.blocked {
				t.Errorf("check(%s) = %v; want blocked %t", tt.address, err, tt.blocked)
			}
		})
	}
}

// TestDeny: the list can be replaced, and what it holds no longer is allowed again.
func TestDeny(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, true))
	c := newClient(t)
	target, own := mustTarget(t, s.url("/")), netip.MustParseAddrPort(s.Addr().String())
	for _, tt := range []struct {
		deny   []netip.AddrPort
		reason core.Reason
	}{
		{nil, ""},
		{[]netip.AddrPort{own}, core.ReasonBlocked},
		{[]netip.AddrPort{netip.AddrPortFrom(own.Addr(), 0)}, core.ReasonBlocked},
		{[]netip.AddrPort{netip.AddrPortFrom(own.Addr(), own.Port()-1)}, ""},
	} {
		c.Deny(tt.deny)
		if r := post(c, target); r.Reason != tt.reason || (r.Status == 200) != (tt.reason == "") {
			t.Errorf("with %v denied: got %s; want reason %q", tt.deny, r.brief(), tt.reason)
		}
	}
	if n := s.accepted.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestPublic: what a document may call a public address.
func TestPublic(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "127.0.0.1": false, "100.64.0.1": false, "100.127.255.255": false, "198.18.0.1": false,
		"0.0.0.0": false, "::": false, "64:ff9b::8.8.8.8": false, "168.63.129.16": false,
	} {
		if got := Public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is public: %t, want %t", text, got, want)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// TestLoopbackIsNotDialled: without permission no spelling of loopback connects.
func TestLoopbackIsNotDialled(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, false))
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, func(o *Options) { o.AllowNets = nil })
	for _, host := range []string{"127.0.0.1", "127.8.8.8", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"} {
		r := post(c, mustTarget(t, "http://"+host+":"+port+"/"))
		if r.Reason != core.ReasonBlocked || r.Started || r.Err == nil {
			t.Errorf("%s: got %s; want reason blocked_address", host, r.brief())
		}
	}
	// What Go's resolver does not take for an address is not to connect either.
	for _, host := range []string{"127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1."} {
		target, err := ParseTarget("http://" + host + ":" + port + "/")
		if err != nil {
			continue
		}
		if r := c.Post(t.Context(), time.Now(), 5*time.Second, target, hello); r.Reason == "" || r.Started {
			t.Errorf("%s: got %s; want a failure", host, r.brief())
		}
	}
	if n := s.accepted.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// fakeDNS returns a resolver that answers every A question with addrs; with none
// every name does not exist.
func fakeDNS(addrs ...netip.Addr) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go answerDNS(far, addrs)
		return near, nil
	}}
}

// answerDNS speaks DNS over a stream: each message has its length in front.
func answerDNS(c net.Conn, addrs []netip.Addr) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		var size [2]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		question := make([]byte, int(size[0])<<8|int(size[1]))
		if _, err := io.ReadFull(r, question); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(question) != nil || len(m.Questions) == 0 {
			return
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if len(addrs) == 0 {
			m.RCode = dnsmessage.RCodeNameError
		}
		for _, a := range addrs {
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: a.As4()},
				})
			}
		}
		answer, err := m.Pack()
		if err != nil {
			return
		}
		if _, err := c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...)); err != nil {
			return
		}
	}
}

// TestNamesAreJudgedByTheirAddresses: what a public name resolves to when it is
// dialled is what counts, whichever of its addresses comes first.
func TestNamesAreJudgedByTheirAddresses(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, false))
	_, port, _ := net.SplitHostPort(s.Addr().String())
	local, private := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.1.2.3")
	tests := []struct {
		name   string
		allow  []netip.Prefix
		addrs  []netip.Addr
		status int
		reason core.Reason
	}{
		{name: "loopback", addrs: []netip.Addr{local}, reason: core.ReasonBlocked},
		{name: "private and loopback", addrs: []netip.Addr{private, local}, reason: core.ReasonBlocked},
		{name: "allowed", allow: loopback, addrs: []netip.Addr{local}, status: 200},
		{name: "only the allowed one is used", allow: loopback, addrs: []netip.Addr{private, local}, status: 200},
		{name: "no such name", allow: loopback, reason: core.ReasonDNS},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, func(o *Options) { o.AllowNets = tt.allow })
			c.dialer.Resolver = fakeDNS(tt.addrs...)
			r := post(c, mustTarget(t, "http://hooks.example.com.:"+port+"/"))
			if r.Status != tt.status || r.Reason != tt.reason {
				t.Errorf("got %s; want status %d, reason %q", r.brief(), tt.status, tt.reason)
			}
			if r.DNS <= 0 {
				t.Errorf("DNS took %v", r.DNS)
			}
		})
	}
}

func TestDNSFailures(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}
	if r := post(c, mustTarget(t, "http://hooks.example.com.:1/")); r.Reason != core.ReasonDNS || r.Started {
		t.Errorf("got %s; want reason dns", r.brief())
	}
	c = newClient(t)
	c.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	if r := c.Post(t.Context(), time.Now(), 100*time.Millisecond, mustTarget(t, "http://hooks.example.com.:1/"), hello); r.Reason != core.ReasonTimeout || r.Started {
		t.Errorf("got %s; want reason timeout", r.brief())
	}
}
