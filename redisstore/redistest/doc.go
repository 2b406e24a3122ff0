// Package redistest gives tests a private redis-server: Start for one of a
// test's own, which it may kill, freeze and restart; Shared for one that all
// tests of a binary use, each in a database of its own.
//
// The servers listen on a Unix socket and on a free loopback port, keep their
// files in a temporary directory, and are gone when the test or the binary
// ends. A missing redis-server fails the test: what is tested here is what
// Redis does, so there is nothing to fall back to.
package redistest
