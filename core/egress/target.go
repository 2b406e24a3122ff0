package egress

import (
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/sealpost/sealpost/core"
)

// Target is an endpoint's URL prepared for sending. It is immutable and may be
// shared.
type Target struct {
	https bool
	host  string // name or address without brackets; checked against the certificate
	addr  string // host:port
	key   string // scheme://host:port: which connections serve it
	head  []byte // request line and host header
}

// ParseTarget prepares a URL in the form that CanonicalURL returns. It refuses
// what cannot be sent as it is, but applies none of the rules about hosts.
func ParseTarget(canonicalURL string) (*Target, error) {
	if len(canonicalURL) > core.MaxURLLength {
		return nil, errors.New("egress: URL is too long")
	}
	for i := range len(canonicalURL) {
		if c := canonicalURL[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '#' {
			return nil, errors.New("egress: URL has a character that cannot be sent")
		}
	}
	u, err := url.Parse(canonicalURL)
	if err != nil {
		return nil, errors.New("egress: URL cannot be parsed") // err repeats the URL
	}
	t := &Target{https: u.Scheme == "https", host: u.Hostname()}
	if !t.https && u.Scheme != "http" || u.User != nil || t.host == "" {
		return nil, errors.New("egress: URL is not http(s)://host without user information")
	}
	t.addr = net.JoinHostPort(t.host, portOf(u))
	t.key = u.Scheme + "://" + t.addr
	t.head = []byte("POST " + requestTarget(canonicalURL) + " HTTP/1.1\r\nhost: " + u.Host + "\r\n")
	return t, nil
}

// portOf returns the port of u, which is the scheme's unless one is given.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// requestTarget returns path and query exactly as they stand in the URL.
func requestTarget(canonicalURL string) string {
	_, rest, _ := strings.Cut(canonicalURL, "://")
	start := strings.IndexAny(rest, "/?")
	switch {
	case start < 0:
		return "/"
	case rest[start] == '?':
		return "/" + rest[start:]
	default:
		return rest[start:]
	}
}

// HostPort returns the host, a name or an address without brackets, and the port.
func (t *Target) HostPort() (host, port string) {
	return t.host, t.addr[strings.LastIndexByte(t.addr, ':')+1:]
}

// Origin returns scheme, host and port, for logs.
func (t *Target) Origin() string { return t.key }
