package egress

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress/dnstest"
)

// TestNameServersInTurn: a name is what the first server says that says anything.
func TestNameServersInTurn(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(okResponse, true))
	_, port, _ := net.SplitHostPort(s.Addr().String())
	const name = "hooks.example.com"
	server := func(a dnstest.Answer) *dnstest.Server {
		return dnstest.Start(t, map[string]dnstest.Answer{name: a})
	}
	knows, elsewhere := dnstest.Addrs("127.0.0.1"), dnstest.Addrs("10.1.2.3")
	missing := func() *dnstest.Server { return dnstest.Start(t, nil) }
	tests := []struct {
		name    string
		servers []*dnstest.Server
		status  int
		reason  core.Reason
		asked   []bool
	}{
		{"one", []*dnstest.Server{server(knows)}, 200, "", []bool{true}},
		{"the first one counts", []*dnstest.Server{server(elsewhere), server(knows)}, 0, core.ReasonBlocked, []bool{true, false}},
		{"the first one is silent", []*dnstest.Server{server(dnstest.Silent), server(knows)}, 200, "", []bool{true, true}},
		{"the first one fails", []*dnstest.Server{server(dnstest.Fails), server(knows)}, 200, "", []bool{true, true}},
		{"the first one is not believed", []*dnstest.Server{server(dnstest.Forged("127.0.0.1")), server(knows)}, 200, "", []bool{true, true}},
		{"the name does not exist", []*dnstest.Server{missing(), server(knows)}, 0, core.ReasonDNS, []bool{true, false}},
		{"the name has no address", []*dnstest.Server{server(dnstest.Addrs()), server(knows)}, 0, core.ReasonDNS, []bool{true, false}},
		{"all fail", []*dnstest.Server{server(dnstest.Fails), server(dnstest.Fails)}, 0, core.ReasonDNS, []bool{true, true}},
		{"lost the first time", []*dnstest.Server{server(dnstest.InTurn(dnstest.Silent, knows))}, 200, "", []bool{true}},
		{"more than a packet holds", []*dnstest.Server{server(dnstest.Many(3000))}, 200, "", []bool{true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, func(o *Options) {
				for _, s := range tt.servers {
					o.DNSServers = append(o.DNSServers, s.Addr())
				}
			})
			r := post(c, mustTarget(t, "http://"+name+".:"+port+"/"))
			if r.Status != tt.status || r.Reason != tt.reason {
				t.Errorf("got %s; want status %d, reason %q", r.brief(), tt.status, tt.reason)
			}
			if r.DNS <= 0 {
				t.Errorf("DNS took %v", r.DNS)
			}
			for i, want := range tt.asked {
				if n := tt.servers[i].Asked(name); (n > 0) != want {
					t.Errorf("server %d was asked %d times, want asked: %t", i+1, n, want)
				}
			}
			if last := tt.servers[len(tt.servers)-1].Addr().String(); tt.name == "all fail" && !strings.Contains(fmt.Sprint(r.Err), last) {
				t.Errorf("error %v does not name the server %s", r.Err, last)
			}
		})
	}
}
