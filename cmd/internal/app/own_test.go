package app

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/sealpost/sealpost/redisstore"
)

// TestAnnouncedAddresses: loopback is another one on every machine.
func TestAnnouncedAddresses(t *testing.T) {
	t.Parallel()
	addrs := func(list ...string) (out []netip.AddrPort) {
		for _, a := range list {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	many := make([]netip.AddrPort, maxOwn+1)
	for i := range many {
		many[i] = netip.MustParseAddrPort(fmt.Sprintf("10.0.1.%d:1", i))
	}
	got := announcedAddresses([]redisstore.Process{
		{Host: "here", Own: addrs("127.0.0.1:9090", "10.0.0.1:9090")},
		{Host: "there", Own: addrs("127.0.0.1:9091", "[::1]:9091", "10.0.0.2:9091")},
		{Host: "older than this field"},
		{Host: "there", Own: many},
	}, "here")
	want := append(addrs("127.0.0.1:9090", "10.0.0.1:9090", "10.0.0.2:9091"), many[:maxOwn]...)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestOwnAddresses: a listener on every interface has the loopback addresses too; a
// socket file and a name that does not resolve have none.
func TestOwnAddresses(t *testing.T) {
	t.Parallel()
	got, err := ownAddresses(t.Context(), "redis://10.0.0.9:6380/0", "[::]:8080", "127.0.0.1:9090")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.0.0.9:6380", "127.0.0.1:8080", "[::1]:8080", "127.0.0.1:9090"} {
		if !slices.Contains(got, netip.MustParseAddrPort(want)) {
			t.Errorf("%s is not among %v", want, got)
		}
	}
	if got, err = ownAddresses(t.Context(), "unix:///run/redis.sock?db=0"); err != nil || len(got) != 0 {
		t.Errorf("of a socket file: %v, %v", got, err)
	}
}
