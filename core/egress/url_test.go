package egress

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

func TestCanonicalURLAccepts(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	tests := []struct{ in, want string }{
		{"https://example.com/hook", "https://example.com/hook"},
		{"https://example.com", "https://example.com/"},
		{"HTTPS://Example.COM/Hook", "https://example.com/Hook"},
		{"https://example.com./hook", "https://example.com/hook"},
		{"https://example.com:443/", "https://example.com/"},
		{"https://example.com:0443/", "https://example.com/"},
		{"https://example.com:/", "https://example.com/"},
		{"https://example.com:8443/", "https://example.com:8443/"},
		{"https://example.com:80/", "https://example.com:80/"},
		{"https://example.com:1/", "https://example.com:1/"},
		{"https://example.com:65535/", "https://example.com:65535/"},
		{"https://example.com?a=b", "https://example.com/?a=b"},
		{"https://example.com/?", "https://example.com/?"},
		{"https://example.com/a?b=c&d=%20e+f", "https://example.com/a?b=c&d=%20e+f"},
		{"https://example.com/a%2Fb", "https://example.com/a%2Fb"},
		{"https://example.com/a%2fb", "https://example.com/a%2fb"},
		{"https://example.com/a/../b//c", "https://example.com/a/../b//c"},
		{"https://example.com/ü?ü=\"<>", "https://example.com/%C3%BC?%C3%BC=%22%3C%3E"},
		{"https://example.com/{id}|x", "https://example.com/%7Bid%7D%7Cx"},
		{"https://example.com/@user", "https://example.com/@user"},
		{"https://example.com/?u=http://127.0.0.1/", "https://example.com/?u=http://127.0.0.1/"},
		{"https://bücher.example/", "https://xn--bcher-kva.example/"},
		{"https://BÜCHER.example/", "https://xn--bcher-kva.example/"},
		{"https://XN--BCHER-KVA.example/", "https://xn--bcher-kva.example/"},
		{"https://例え。テスト/", "https://xn--r8jz45g.xn--zckzah/"},
		{"https://my_service.example.com/", "https://my_service.example.com/"},
		{"https://r3---sn.example.com/", "https://r3---sn.example.com/"},
		{"https://1.example.com/", "https://1.example.com/"},
		{"https://0x7f.example.com/", "https://0x7f.example.com/"},
		{"https://localhost.example.com/", "https://localhost.example.com/"},
		{"https://internal.example/", "https://internal.example/"},
		{"https://" + label + ".example.com/", "https://" + label + ".example.com/"},
		{"https://8.8.8.8/", "https://8.8.8.8/"},
		{"https://8.8.8.8./", "https://8.8.8.8/"},
		{"https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/"},
		{"https://[2606:4700:4700:0:0:0:0:1111]:8443/", "https://[2606:4700:4700::1111]:8443/"},
		{"https://[2606:4700:4700::ABCD]/", "https://[2606:4700:4700::abcd]/"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			got, err := CanonicalURL(tt.in, URLPolicy{})
			if err != nil || got != tt.want {
				t.Fatalf("CanonicalURL = %q, %v; want %q", got, err, tt.want)
			}
			checkCanonical(t, got, URLPolicy{})
		})
	}
}

func TestCanonicalURLRefuses(t *testing.T) {
	t.Parallel()
	const (
		empty    = "must not be empty"
		long     = "longer than 2048 bytes"
		utf8     = "not valid UTF-8"
		space    = "contains a space, a control character or a backslash"
		invalid  = "not a valid URL"
		absolute = "must be absolute"
		scheme   = "scheme must be https"
		user     = "must not contain user information"
		fragment = "must not contain a fragment"
		noHost   = "host is missing"
		percent  = "host must not contain %"
		port     = "port must be between 1 and 65535"
	)
	tests := []struct{ in, rule string }{
		// The text.
		{"", empty},
		{"https://example.com/" + strings.Repeat("a", 2048), long},
		{"https://example.com/" + strings.Repeat("ü", 1000), long}, // when encoded
		{"https://example.com/\xff", utf8},
		{" https://example.com/", space},
		{"https://example.com/ ", space},
		{"https://example.com/a b", space},
		{"https://example.com/?a b", space},
		{"https://example.com/\r\nhost: evil", space},
		{"https://exam\tple.com/", space},
		{"https://example.com/\x00", space},
		{"https://example.com/\x7f", space},
		{"https://example.com\\@127.0.0.1/", space},
		{"https:\\\\127.0.0.1/", space},

		// The parts.
		{"example.com/hook", absolute},
		{"//example.com/hook", absolute},
		{"/hook", absolute},
		{"http://example.com/", scheme},
		{"ftp://example.com/", scheme},
		{"file:///etc/passwd", scheme},
		{"gopher://127.0.0.1:6379/_INFO", scheme},
		{"javascript:alert(1)", scheme},
		{"unix:///run/redis.sock", scheme},
		{"https:example.com", noHost},
		{"https:///example.com", noHost},
		{"https://", noHost},
		{"https://:443/", noHost},
		{"https://?x", noHost},
		{"https://user@example.com/", user},
		{"https://user:password@example.com/", user},
		{"https://@example.com/", user},
		{"https://example.com@127.0.0.1/", user},
		{"https://8.8.8.8@127.0.0.1/", user},
		{"https://example.com/#fragment", fragment},
		{"https://example.com/#", fragment},
		{"https://127.0.0.1#@example.com/", fragment},
		{"https://example.com:0/", port},
		{"https://example.com:65536/", port},
		{"https://example.com:99999999999999999999/", port},
		{"https://example.com:-1/", invalid},
		{"https://example.com:http/", invalid},
		{"https://127.0.0.1:80:443/", invalid},
		{"https://::1/", invalid},
		{"https://::ffff:127.0.0.1/", invalid},
		{"https://example.com/%zz", invalid},
		{"https://[::1/", invalid},
		{"https://[::1]x/", invalid},
		{"https://exam%70le.com/", invalid},
		{"https://%31%32%37.0.0.1/", invalid},
		{"https://b%C3%BCcher.example/", percent},
		{"https://127%E3%80%820.0.1/", percent},
		{"https://[fe80::1%25eth0]/", percent},
		{"https://[::1%25lo]/", percent},

		// Addresses that are not public.
		{"https://127.0.0.1/", rulePublic},
		{"https://127.0.0.1./", rulePublic},
		{"https://127.255.255.254/", rulePublic},
		{"https://0.0.0.0/", rulePublic},
		{"https://10.0.0.1/", rulePublic},
		{"https://100.64.0.1/", rulePublic},
		{"https://169.254.169.254/latest/meta-data/", rulePublic},
		{"https://172.16.0.1/", rulePublic},
		{"https://172.31.255.255/", rulePublic},
		{"https://192.168.0.1/", rulePublic},
		{"https://192.0.2.1/", rulePublic},
		{"https://198.18.0.1/", rulePublic},
		{"https://224.0.0.1/", rulePublic},
		{"https://255.255.255.255/", rulePublic},
		{"https://168.63.129.16/", rulePublic},
		{"https://[::]/", rulePublic},
		{"https://[::1]/", rulePublic},
		{"https://[0:0:0:0:0:0:0:1]/", rulePublic},
		{"https://[::127.0.0.1]/", rulePublic},
		{"https://[::7f00:1]/", rulePublic},
		{"https://[::ffff:127.0.0.1]/", rulePublic},
		{"https://[::ffff:7f00:1]/", rulePublic},
		{"https://[0:0:0:0:0:ffff:127.0.0.1]/", rulePublic},
		{"https://[::ffff:8.8.8.8]/", rulePublic},
		{"https://[::ffff:0:127.0.0.1]/", rulePublic},
		{"https://[64:ff9b::127.0.0.1]/", rulePublic},
		{"https://[64:ff9b:1::1]/", rulePublic},
		{"https://[2002:7f00:1::]/", rulePublic},
		{"https://[2001:0:1::1]/", rulePublic},
		{"https://[2001:db8::1]/", rulePublic},
		{"https://[fc00::1]/", rulePublic},
		{"https://[fd00:ec2::254]/", rulePublic},
		{"https://[fe80::1]/", rulePublic},
		{"https://[fec0::1]/", rulePublic},
		{"https://[ff02::1]/", rulePublic},
		{"https://[100::1]/", rulePublic},
		{"https://[5f00::1]/", rulePublic},
		{"https://１２７.０.０.１/", rulePublic},
		{"https://127。0。0。1/", rulePublic},
		{"https://⑫⑦.0.0.1/", rulePublic},
		{"https://①②⑦.0.0.1/", rulePublic},

		// What some resolvers take for an address.
		{"https://127.1/", ruleNumber},
		{"https://127.0.1/", ruleNumber},
		{"https://2130706433/", ruleNumber},
		{"https://017700000001/", ruleNumber},
		{"https://0177.0.0.1/", ruleNumber},
		{"https://127.0.0.01/", ruleNumber},
		{"https://0x7f000001/", ruleNumber},
		{"https://0x7f.0.0.1/", ruleNumber},
		{"https://0X7F.0X0.0X0.0X1/", ruleNumber},
		{"https://0x/", ruleNumber},
		{"https://127.0.0.1.1/", ruleNumber},
		{"https://256.256.256.256/", ruleNumber},
		{"https://example.1/", ruleNumber},
		{"https://example.0x1f/", ruleNumber},

		// Names.
		{"https://localhost/", ruleReserved},
		{"https://LOCALHOST/", ruleReserved},
		{"https://localhost./", ruleReserved},
		{"https://ｌｏｃａｌｈｏｓｔ/", ruleReserved},
		{"https://redis:6379/", ruleReserved},
		{"https://com/", ruleReserved},
		{"https://a.localhost/", ruleReserved},
		{"https://printer.local/", ruleReserved},
		{"https://metadata.google.internal/", ruleReserved},
		{"https://METADATA.GOOGLE.INTERNAL./", ruleReserved},
		{"https://1.0.0.127.in-addr.arpa/", ruleReserved},
		{"https://router.home.arpa/", ruleReserved},
		{"https://abcdef.onion/", ruleReserved},
		{"https://example..com/", ruleHost},
		{"https://.example.com/", ruleHost},
		{"https://example.com../", ruleHost},
		{"https://./", ruleHost},
		{"https://../", ruleHost},
		{"https://-example.com/", ruleHost},
		{"https://example-.com/", ruleHost},
		{"https://exam*ple.com/", ruleHost},
		{"https://example.com,127.0.0.1/", ruleNumber},
		{"https://127.0.0.1,example.com/", ruleHost},
		{"https://$(id).example.com/", ruleHost},
		{"https://" + strings.Repeat("a", 64) + ".example.com/", ruleHost},
		{"https://" + strings.Repeat("a.", 130) + "example.com/", ruleHost},
		{"https://xn--a.example.com/", ruleHost},
		{"https://xn--.example.com/", ruleHost},
		{"https://[127.0.0.1]/", invalid},
		{"https://[example.com]/", invalid},
		{"https://[]/", invalid},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			got, err := CanonicalURL(tt.in, URLPolicy{})
			want := core.Invalid("url", tt.rule)
			var coreErr *core.Error
			if got != "" || !errors.As(err, &coreErr) {
				t.Fatalf("CanonicalURL = %q, %v; want %q", got, err, tt.rule)
			}
			if diff := cmp.Diff(want, coreErr); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestURLPolicy(t *testing.T) {
	t.Parallel()
	open := URLPolicy{AllowHTTP: true, AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
	tests := []struct {
		in, want string
	}{
		{"http://127.0.0.1:8080/hook", "http://127.0.0.1:8080/hook"},
		{"http://127.0.0.1:80/", "http://127.0.0.1/"},
		{"http://[::1]:9000/", "http://[::1]:9000/"},
		{"http://localhost/", "http://localhost/"},
		{"https://receiver.internal/", "https://receiver.internal/"},
		{"https://example.com/", "https://example.com/"},
		{"http://10.0.0.1/", ""},
		{"http://[::ffff:127.0.0.1]/", ""},
		{"http://127.1/", ""},
		{"http://2130706433/", ""},
		{"ftp://127.0.0.1/", ""},
		{"http://user@127.0.0.1/", ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			got, err := CanonicalURL(tt.in, open)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Fatalf("CanonicalURL = %q, %v; want %q", got, err, tt.want)
			}
			if err == nil {
				checkCanonical(t, got, open)
			}
		})
	}
	if _, err := CanonicalURL("ftp://example.com/", URLPolicy{AllowHTTP: true}); err == nil || strings.HasSuffix(err.Error(), "scheme must be https") {
		t.Errorf("with http allowed: %v; want both schemes named", err)
	}
}

// checkCanonical checks what must hold of every URL that CanonicalURL returns.
func checkCanonical(t *testing.T, canonical string, p URLPolicy) {
	t.Helper()
	again, err := CanonicalURL(canonical, p)
	if err != nil || again != canonical {
		t.Errorf("not idempotent: %q became %q, %v", canonical, again, err)
	}
	u, err := url.Parse(canonical)
	if err != nil {
		t.Fatalf("%q: %v", canonical, err)
	}
	if u.User != nil || u.Fragment != "" || strings.ContainsAny(canonical, "#\\ \r\n\t") || len(canonical) > core.MaxURLLength {
		t.Errorf("%q has a part that it must not have", canonical)
	}
	target, err := ParseTarget(canonical)
	if err != nil {
		t.Fatalf("ParseTarget(%q): %v", canonical, err)
	}
	if target.host != u.Hostname() || !strings.HasPrefix(canonical, u.Scheme+"://"+u.Host+"/") {
		t.Errorf("%q: target host %q, URL host %q", canonical, target.host, u.Host)
	}
	path := strings.TrimPrefix(canonical, u.Scheme+"://"+u.Host)
	if want := "POST " + path + " HTTP/1.1\r\nhost: " + u.Host + "\r\n"; string(target.head) != want {
		t.Errorf("%q: head %q, want %q", canonical, target.head, want)
	}
	if addr, err := netip.ParseAddr(target.host); err == nil && newGuard(p.AllowNets, nil).check(netip.AddrPortFrom(addr, 443)) != nil {
		t.Errorf("%q names an address that may not be reached", canonical)
	}
}

func FuzzCanonicalURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/hook?a=b", "https://[2606:4700::1]:8443/", "https://bücher.example/ü?ü", "https://XN--BCHER-KVA.example/",
		"https://127.0.0.1/", "https://user@example.com/#x", "https://example.com:0443/%2f%zz", "https://１。example/", "https://a.xn--a/", "https:///x",
		"https://⑫⑦.⓪。0．１:443/", "https://0X7F.1/", "https://017700000001/", "https://127.0.0.1./", "https://127.0.0.1../", "https://0x./", "https://１２７.１/",
		"https://[::ffff:7f00:1]/", "https://[64:ff9b:1::7f00:1]/", "https://[2002:7f00:1::]/", "https://[fe80::1%25eth0]/", "https://[::1%lo]/", "https://[fd00:ec2::254]:80/",
		"https://8.8.8.8\\@127.0.0.1/", "https://8.8.8.8@127.0.0.1/", "https://127.0.0.1#@8.8.8.8/", "https://127%2e0.0.1/", "https://127.0.0.1%00.example.com/", "https://a.example:65536/",
		"https://a.example:00/", "https://a.example:+1/", "https://ｌｏｃａｌｈｏｓｔ。/", "https://a.LOCALHOST./", "https://lo\u00adcalhost/", "https://a\t.example/", "https://a.example/\r\nhost:b", "https://xn--127-0.0.0.1/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		canonical, err := CanonicalURL(raw, URLPolicy{})
		if err != nil {
			if canonical != "" || core.CodeOf(err) != core.CodeInvalid {
				t.Errorf("CanonicalURL(%q) = %q, %v", raw, canonical, err)
			}
			return
		}
		if !strings.HasPrefix(canonical, "https://") {
			t.Errorf("CanonicalURL(%q) = %q", raw, canonical)
		}
		checkCanonical(t, canonical, URLPolicy{})
	})
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	good := []struct{ in, origin, head string }{
		{"https://example.com/a?b", "https://example.com:443", "POST /a?b HTTP/1.1\r\nhost: example.com\r\n"},
		{"http://example.com", "http://example.com:80", "POST / HTTP/1.1\r\nhost: example.com\r\n"},
		{"http://example.com:8080?b", "http://example.com:8080", "POST /?b HTTP/1.1\r\nhost: example.com:8080\r\n"},
		{"https://[::1]:8443/", "https://[::1]:8443", "POST / HTTP/1.1\r\nhost: [::1]:8443\r\n"},
	}
	for _, tt := range good {
		target, err := ParseTarget(tt.in)
		if err != nil || target.Origin() != tt.origin || string(target.head) != tt.head {
			t.Errorf("ParseTarget(%q) = %+v, %v", tt.in, target, err)
		}
	}
	for _, in := range []string{
		"", "/", "example.com", "ftp://example.com/", "https://", "https:///x", "https://u@example.com/", "https://example.com/#f",
		"https://example.com/a b", "https://example.com/\r\nx: y", "https://example.com/ü", "https://example.com:x/", "https://example.com/" + strings.Repeat("a", 2048),
	} {
		if target, err := ParseTarget(in); err == nil {
			t.Errorf("ParseTarget(%q) = %+v; want an error", in, target)
		}
	}
}
