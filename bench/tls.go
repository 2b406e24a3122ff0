package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// listenTLS makes the receiver serve TLS as well, with a certificate of its own.
func (r *receiver) listenTLS() error {
	cert, roots, err := newCertificate(time.Now())
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.secure, r.roots = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}), roots
	go r.server.Serve(r.secure) //nolint:errcheck // ends with close
	return nil
}

// secureURL returns the https:// address of an endpoint.
func (r *receiver) secureURL(endpoint int) string {
	return fmt.Sprintf("https://%s/%d", r.secure.Addr(), endpoint)
}

// newCertificate returns a self-signed certificate for 127.0.0.1 (ECDSA P-256, as
// most public ones today), and the same as PEM.
func newCertificate(now time.Time) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
