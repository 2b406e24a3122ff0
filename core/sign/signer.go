package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strconv"
	"sync"
)

// The headers of Standard Webhooks 1.0.0, lower-case as they are sent.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

const signatureVersion = "v1"

// Signer signs messages with one secret. It is safe for concurrent use and
// keeps keyed HMAC states for reuse: setting one up costs as much as a message
// of 1 KB.
type Signer struct {
	states sync.Pool // of *state
}

type state struct {
	mac  hash.Hash
	head []byte // id + "." + timestamp + "."
	sum  [sha256.Size]byte
}

// NewSigner returns a signer with the HMAC key key, which is not kept.
func NewSigner(key []byte) *Signer {
	key = append([]byte(nil), key...)
	return &Signer{states: sync.Pool{New: func() any {
		return &state{mac: hmac.New(sha256.New, key), head: make([]byte, 0, 96)}
	}}}
}

// AppendSignature appends `v1,` and the base64 signature of the message to dst:
// HMAC-SHA256 over id + "." + unixSeconds + "." + body (Standard Webhooks 1.0.0,
// "Signature scheme"). id must not contain a full stop.
func (s *Signer) AppendSignature(dst []byte, id string, unixSeconds int64, body []byte) []byte {
	st := s.states.Get().(*state)
	st.head = append(st.head[:0], id...)
	st.head = append(st.head, '.')
	st.head = strconv.AppendInt(st.head, unixSeconds, 10)
	dst = append(dst, signatureVersion...)
	dst = append(dst, ',')
	dst = base64.StdEncoding.AppendEncode(dst, st.mac256(body))
	s.states.Put(st)
	return dst
}

// mac256 returns the HMAC of head + "." + body; the result is valid until the
// next call.
func (st *state) mac256(body []byte) []byte {
	st.head = append(st.head, '.')
	st.mac.Reset()
	st.mac.Write(st.head)
	st.mac.Write(body)
	return st.mac.Sum(st.sum[:0])
}

// String keeps the key out of anything that prints a signer by mistake.
func (s *Signer) String() string { return "[redacted]" }

// GoString is String, for the verb %#v.
func (s *Signer) GoString() string { return s.String() }
