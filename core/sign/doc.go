// Package sign makes and checks Standard Webhooks 1.0.0 signatures and derives
// the secrets that sign them.
//
// A signing secret is never stored. It is derived by HKDF-SHA256 from a master
// key and from what the endpoint's record holds (kid, version, salt), and the
// record's SHA-256 of the secret shows whether the right master key was used.
// Who reads Redis learns nothing; who writes it can only break signatures.
//
// The package is pure: no I/O beyond the system's random source, no goroutines.
package sign
