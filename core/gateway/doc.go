// Package gateway is the HTTP API: it authenticates, validates and answers, and
// leaves storing to the interfaces it declares.
//
// Every request is judged in one order, so that an answer never depends on what
// the caller may not know: path (404), method (405), key (401), scope (403),
// resource (404), size (413), syntax (400), rules (422).
//
// Bodies are streamed: the key is checked before more than a few kilobytes of a
// body have been read, a declared length allocates nothing, and all bodies
// together are bounded (see bodyBudget). Bytes of a request die when its
// handler returns; what outlives it is copied where it is parsed.
package gateway
