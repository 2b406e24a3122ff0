package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// authority is a certificate authority of a test's own.
type authority struct {
	file string // PEM, for SSL_CERT_FILE
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Sealpost test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
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
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &authority{file: file, cert: cert, key: key}
}

// issue returns a certificate for 127.0.0.1, 127.0.0.2, localhost and the names under
// hooks.test.
func (a *authority) issue(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "receiver"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 0, 2)}, DNSNames: []string{"localhost", "*.hooks.test"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// received is one request that a receiver got.
type received struct {
	at     time.Time // when its head was here
	method string
	path   string
	header http.Header
	body   []byte
}

func (r *received) id() string { return r.header.Get("webhook-id") }

// receiver is a customer's endpoint behind TLS. It keeps all it gets.
type receiver struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex
	requests []received
	more     chan struct{} // closed and replaced when a request comes
	answer   func(n int, r *received, w http.ResponseWriter)
}

// newReceiver starts a receiver that answers 204, or what answer writes for the
// n-th request (from 1). answer runs in the request's own goroutine.
func newReceiver(t *testing.T, ca *authority, answer func(n int, r *received, w http.ResponseWriter)) *receiver {
	t.Helper()
	return newReceiverAt(t, ca, "127.0.0.1:0", answer)
}

// newReceiverAt is newReceiver with an address to listen at.
func newReceiverAt(t *testing.T, ca *authority, address string, answer func(n int, r *received, w http.ResponseWriter)) *receiver {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return newReceiverOn(t, ca, listener, answer)
}

// newReceiverOn is newReceiver with a listener, which it closes.
func newReceiverOn(t *testing.T, ca *authority, listener net.Listener, answer func(n int, r *received, w http.ResponseWriter)) *receiver {
	t.Helper()
	if answer == nil {
		answer = func(_ int, _ *received, w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }
	}
	r := &receiver{t: t, more: make(chan struct{}), answer: answer}
	r.server = httptest.NewUnstartedServer(r)
	r.server.Listener.Close()
	r.server.Listener = listener
	r.server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t)}, MinVersion: tls.VersionTLS12}
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0) // cut connections are what some tests are about
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	return r
}

// url returns the receiver's address, an https URL.
func (r *receiver) url() string { return r.server.URL + "/hook" }

// ServeHTTP keeps the request and answers it.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	got := received{at: at, method: req.Method, path: req.URL.RequestURI(), header: req.Header.Clone(), body: body}
	r.mu.Lock()
	r.requests = append(r.requests, got)
	n := len(r.requests)
	close(r.more)
	r.more = make(chan struct{})
	r.mu.Unlock()
	r.answer(n, &got, w)
}

// all returns what came so far.
func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[:len(r.requests):len(r.requests)]
}

// await returns once n requests have come, with all that came.
func (r *receiver) await(n int) []received {
	r.t.Helper()
	return r.awaitFor(n, patience)
}

func (r *receiver) awaitFor(n int, limit time.Duration) []received {
	r.t.Helper()
	deadline := time.After(limit)
	for {
		r.mu.Lock()
		got, more := r.requests, r.more
		r.mu.Unlock()
		if len(got) >= n {
			return got[:len(got):len(got)]
		}
		select {
		case <-more:
		case <-deadline:
			r.t.Fatalf("the receiver got %d requests within %v, want %d", len(got), limit, n)
		}
	}
}
