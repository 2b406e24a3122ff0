package egress

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
)

// The defaults of Options.
const (
	DefaultMaxConnsPerHost = 512
	DefaultMaxIdlePerHost  = 128
	DefaultMaxIdle         = 4096

	// DefaultIdleTimeout is below the 5 s after which the strictest of the common
	// servers (Node.js) closes an idle connection.
	DefaultIdleTimeout = 4 * time.Second
)

// Options configures a Client. The zero value reaches public addresses over
// https only, with the defaults above.
type Options struct {
	// AllowHTTP permits targets without TLS.
	AllowHTTP bool

	// AllowNets are networks that may be reached although they are not public.
	AllowNets []netip.Prefix

	// DenyAddrs are Sealpost's own: Redis, the API, the admin listeners; Client.Deny
	// replaces them. Port 0 stands for every port. They are refused even inside
	// AllowNets, unless AllowNets lists exactly that address (/32 or /128), and so are
	// the servers where clouds keep a machine's credentials.
	DenyAddrs []netip.AddrPort

	// DNSServers resolve the targets' names, tried in turn; empty: the system's
	// resolver. At most MaxDNSServers.
	DNSServers []netip.AddrPort

	MaxConnsPerHost int           // connections to one scheme, host and port; beyond it Post waits
	MaxIdlePerHost  int           // of these kept while idle
	MaxIdle         int           // idle connections in all; beyond it the oldest is closed
	IdleTimeout     time.Duration // how long a connection may lie idle

	RootCAs    *x509.CertPool        // nil: the system's
	UserAgent  string                // "": Sealpost/<version>
	Registerer prometheus.Registerer // nil: metrics are kept but not registered

	// Now is the clock of idle times, of the durations in Result and of what Post is
	// told as the time; nil: time.Now. Sockets, and whoever waits for one, keep their deadlines by the system's clock.
	Now func() time.Time
}

func (o *Options) setDefaults() error {
	if o.MaxConnsPerHost < 0 || o.MaxIdlePerHost < 0 || o.MaxIdle < 0 || o.IdleTimeout < 0 {
		return errors.New("egress: a limit is negative")
	}
	if len(o.DNSServers) > MaxDNSServers {
		return fmt.Errorf("egress: more than %d name servers", MaxDNSServers)
	}
	setDefault(&o.MaxConnsPerHost, DefaultMaxConnsPerHost)
	setDefault(&o.MaxIdlePerHost, DefaultMaxIdlePerHost)
	setDefault(&o.MaxIdle, DefaultMaxIdle)
	setDefault(&o.IdleTimeout, DefaultIdleTimeout)
	setDefault(&o.UserAgent, "Sealpost/"+core.Version)
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

func setDefault[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}
