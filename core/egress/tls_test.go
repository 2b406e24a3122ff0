package egress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

// authority is a certificate authority of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Sealpost test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue returns a certificate of a server, changed as a test wants it.
func (a *authority) issue(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "receiver"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// overTLS wraps a handler; states receives what each handshake came to.
func overTLS(config *tls.Config, states chan<- tls.ConnectionState, handle func(*server, net.Conn)) func(*server, net.Conn) {
	return func(s *server, c net.Conn) {
		secure := tls.Server(c, config)
		if secure.Handshake() != nil {
			return
		}
		if states != nil {
			states <- secure.ConnectionState()
		}
		handle(s, secure)
		secure.Close()
	}
}

func (s *server) secureURL() string { return "https://" + s.Addr().String() + "/" }

func TestTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	states := make(chan tls.ConnectionState, 4)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, NextProtos: []string{"h2", "http/1.1"}}
	s := serve(t, overTLS(config, states, answering(okResponse, false)))
	c := newClient(t, func(o *Options) { o.AllowHTTP, o.RootCAs = false, ca.pool() })
	target := mustTarget(t, s.secureURL())

	first := post(c, target)
	if first.Status != 200 || first.TLS <= 0 {
		t.Fatalf("first: got %s, TLS %v", first.brief(), first.TLS)
	}
	if state := <-states; state.NegotiatedProtocol != "http/1.1" || state.Version != tls.VersionTLS13 || state.DidResume {
		t.Errorf("first handshake: %q, version %x, resumed %t", state.NegotiatedProtocol, state.Version, state.DidResume)
	}
	if second := post(c, target); second.Status != 200 || !second.Reused || second.TLS != 0 {
		t.Errorf("second: got %s; want the connection used again", second.brief())
	}
	c.DropIdle(target)
	if third := post(c, target); third.Status != 200 || third.Reused {
		t.Errorf("third: got %s; want a fresh connection", third.brief())
	}
	if state := <-states; !state.DidResume {
		t.Error("the TLS session was not resumed")
	}
}

func TestTLSFailures(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	good := ca.issue(t, nil)
	tests := []struct {
		name   string
		config *tls.Config
	}{
		{"unknown authority", &tls.Config{Certificates: []tls.Certificate{stranger.issue(t, nil)}}},
		{"another name", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = nil, []string{"receiver.example"}
		})}}},
		{"very many other names", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = nil, slices.Repeat([]string{"receiver.example"}, 500)
		})}}},
		{"expired", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Minute)
		})}}},
		{"not for servers", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		})}}},
		{"TLS 1.1", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}},
		{"no protocol in common", &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"spdy/3"}}},
		{"client certificate wanted, TLS 1.2", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, overTLS(tt.config, nil, answering(okResponse, false)))
			r := post(newClient(t, func(o *Options) { o.RootCAs = ca.pool() }), mustTarget(t, s.secureURL()))
			if r.Reason != core.ReasonTLS || r.Started || r.Err == nil || len(r.Err.Error()) > maxErrorLength+len("…") || s.requests.Load() != 0 {
				t.Errorf("got %s; want reason tls and nothing sent", r.brief())
			}
		})
	}
	t.Run("no TLS at all", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(_ *server, c net.Conn) { c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
		if r := post(newClient(t), mustTarget(t, s.secureURL())); r.Reason != core.ReasonTLS || r.Started {
			t.Errorf("got %s; want reason tls", r.brief())
		}
	})
	t.Run("closed in the handshake", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(*server, net.Conn) {})
		if r := post(newClient(t), mustTarget(t, s.secureURL())); r.Reason != core.ReasonTLS || r.Started {
			t.Errorf("got %s; want reason tls", r.brief())
		}
	})
	t.Run("client certificate wanted, TLS 1.3", func(t *testing.T) {
		t.Parallel()
		// The server judges after our side is done: the alert answers the request.
		// Its TCP connection is kept open so that the alert is not overtaken.
		config := &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}
		s := serve(t, func(s *server, c net.Conn) {
			tls.Server(c, config).Handshake()
			stall(s, c)
		})
		r := post(newClient(t, func(o *Options) { o.RootCAs = ca.pool() }), mustTarget(t, s.secureURL()))
		if r.Reason != core.ReasonTLS || !r.Started {
			t.Errorf("got %s; want reason tls", r.brief())
		}
	})
}

// TestTLSWithoutFarewell: a body that ends with the connection is complete also
// when the server skips close_notify.
func TestTLSWithoutFarewell(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	s := serve(t, func(s *server, c net.Conn) {
		answering("HTTP/1.1 200 OK\r\n\r\nok", true)(s, tls.Server(c, config))
		// c alone is closed, by serve.
	})
	r := post(newClient(t, func(o *Options) { o.RootCAs = ca.pool() }), mustTarget(t, s.secureURL()))
	if r.Status != 200 {
		t.Errorf("got %s; want status 200", r.brief())
	}
}

func TestStaleTLSConnection(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	s := serve(t, nth(overTLS(config, nil, onSecondRequest(hangUp)), overTLS(config, nil, answering(okResponse, false))))
	c := newClient(t, func(o *Options) { o.RootCAs = ca.pool() })
	target := mustTarget(t, s.secureURL())
	post(c, target)
	if r := post(c, target); r.Status != 200 || !r.Resent {
		t.Errorf("got %s; want it sent again", r.brief())
	}
}
