// Package e2e holds the end-to-end tests: the real programs gateway and sender
// as processes of their own, a real redis-server, receivers behind TLS, and the
// official verifiers of Standard Webhooks. It contains tests only.
package e2e
