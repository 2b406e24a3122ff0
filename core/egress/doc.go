// Package egress makes the outgoing HTTP requests: POST to an endpoint's URL
// over HTTP/1.1, with keep-alive, under one absolute deadline.
//
// It has its own connections instead of an HTTP library's client for three
// reasons. A request must be composed and signed on a ready connection,
// immediately before its first byte is written, so that DNS, TCP and TLS do not
// age the endpoint's record. One deadline has to cover the whole attempt, TLS
// handshake included. And every address must be judged when it is dialled, after
// DNS, so that no name can lead into a private network (the guard).
//
// Of a response only the status and Retry-After are used. Its head may have
// 16 KiB and its body 64 KiB; of a longer body the rest is not read and the
// connection is closed. Redirects are never followed.
//
// CanonicalURL holds the rules for endpoint URLs. It refuses early and kindly
// what the guard would refuse at every attempt; the guard alone is what protects.
package egress
