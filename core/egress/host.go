package egress

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

const (
	maxHostLength  = 253 // bytes, RFC 1035 2.3.4 without the final full stop
	maxLabelLength = 63  // bytes
)

// reservedSuffixes never lead to a public host: RFC 6761, 6762, 7686, 8375 and
// the private-use name .internal.
var reservedSuffixes = []string{".localhost", ".local", ".internal", ".arpa", ".onion"}

// What a host can break.
const (
	ruleHost     = "host is not a valid name or address"
	ruleNumber   = "host must not end in a number"
	rulePublic   = "address is not public"
	ruleReserved = "host name is reserved"
)

// canonicalHost returns the host as it is stored, an IPv6 address in brackets.
func canonicalHost(u *url.URL, p URLPolicy) (host, rule string) {
	name := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(name)
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", ruleHost
		}
		return "[" + addr.String() + "]", checkLiteral(addr, p)
	}
	name, ok := asciiName(name)
	if !ok {
		return "", ruleHost
	}
	// Judged after the mapping: full-width digits and ideographic full stops
	// spell an IPv4 address as well.
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.String(), checkLiteral(addr, p)
	}
	if endsInNumber(name) {
		return "", ruleNumber // some resolvers read 127.1, 0x7f.1 or 2130706433 as an address
	}
	if !validName(name) {
		return "", ruleHost
	}
	if len(p.AllowNets) == 0 && reserved(name) {
		return "", ruleReserved
	}
	return name, ""
}

func checkLiteral(addr netip.Addr, p URLPolicy) (rule string) {
	if newGuard(p.AllowNets, nil).check(netip.AddrPortFrom(addr, 0)) != nil {
		return rulePublic
	}
	return ""
}

// asciiName returns name in ASCII and lower case without a trailing full stop.
func asciiName(name string) (string, bool) {
	name = strings.ToLower(name)
	if !isASCII(name) || strings.HasPrefix(name, "xn--") || strings.Contains(name, ".xn--") {
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", false
		}
		name = ascii
	}
	return strings.TrimSuffix(name, "."), isASCII(name)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// endsInNumber reports whether the last label is decimal or 0x hexadecimal (the
// URL Standard's "ends in a number").
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// validName reports whether name consists of labels of letters, digits, `-` and
// `_` (which is in use, though not in host names by the book).
func validName(name string) bool {
	if name == "" || len(name) > maxHostLength {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabelLength || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

func reserved(name string) bool {
	if !strings.Contains(name, ".") {
		return true
	}
	for _, suffix := range reservedSuffixes {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
