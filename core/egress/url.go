package egress

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sealpost/sealpost/core"
)

// URLPolicy says which endpoint URLs are permitted beyond public https ones.
type URLPolicy struct {
	AllowHTTP bool
	AllowNets []netip.Prefix // not empty: reserved names are permitted too
}

// CanonicalURL applies the rules for endpoint URLs and returns the one spelling
// that is stored and sent: scheme and host in lower case, names in ASCII, no
// trailing full stop, no default port, a path of at least "/", nothing outside of
// ASCII. It does not resolve the name. The error is a *core.Error with
// CodeInvalid about the field `url`, whose detail is the rule that broke.
func CanonicalURL(raw string, p URLPolicy) (string, error) {
	canonical, rule := canonicalURL(raw, p)
	if rule != "" {
		return "", core.Invalid("url", rule)
	}
	return canonical, nil
}

// canonicalURL returns the canonical form, or the rule that raw breaks.
func canonicalURL(raw string, p URLPolicy) (canonical, rule string) {
	if rule := checkText(raw); rule != "" {
		return "", rule
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", "not a valid URL"
	}
	if rule := checkParts(u, raw, p); rule != "" {
		return "", rule
	}
	host, rule := canonicalHost(u, p)
	if rule != "" {
		return "", rule
	}
	port, rule := canonicalPort(u)
	if rule != "" {
		return "", rule
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	canonical = u.Scheme + "://" + host + port + path
	if u.RawQuery != "" || u.ForceQuery {
		canonical += "?" + escapeQuery(u.RawQuery)
	}
	if len(canonical) > core.MaxURLLength {
		return "", tooLong()
	}
	return canonical, ""
}

func tooLong() string { return fmt.Sprintf("longer than %d bytes", core.MaxURLLength) }

// checkText judges raw before anything takes it apart, so that no two parsers
// can disagree about it.
func checkText(raw string) (rule string) {
	switch {
	case raw == "":
		return "must not be empty"
	case len(raw) > core.MaxURLLength:
		return tooLong()
	case !utf8.ValidString(raw):
		return "not valid UTF-8"
	}
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c == 0x7f || c == '\\' {
			return "contains a space, a control character or a backslash"
		}
	}
	return ""
}

func checkParts(u *url.URL, raw string, p URLPolicy) (rule string) {
	switch {
	case u.Scheme == "":
		return "must be absolute"
	case p.AllowHTTP && u.Scheme != "https" && u.Scheme != "http":
		return "scheme must be https or http"
	case !p.AllowHTTP && u.Scheme != "https":
		return "scheme must be https"
	case u.User != nil:
		return "must not contain user information"
	case strings.Contains(raw, "#"):
		return "must not contain a fragment"
	case u.Hostname() == "":
		return "host is missing"
	}
	_, rest, _ := strings.Cut(raw, "://")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	if strings.Contains(rest, "%") { // an encoded host, or the zone of an address
		return "host must not contain %"
	}
	return ""
}

// canonicalPort returns ":port", or "" for the scheme's own port.
func canonicalPort(u *url.URL) (port, rule string) {
	if u.Port() == "" {
		return "", ""
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || n == 0 {
		return "", "port must be between 1 and 65535"
	}
	if n == 443 && u.Scheme == "https" || n == 80 && u.Scheme == "http" {
		return "", ""
	}
	return ":" + strconv.FormatUint(n, 10), ""
}

// escapeQuery percent-encodes what must not stand in a request line, as browsers
// do, and leaves the rest alone: what a query means is its receiver's business.
func escapeQuery(q string) string {
	var b strings.Builder
	for i := range len(q) {
		if c := q[i]; c >= 0x80 || c == '"' || c == '<' || c == '>' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
