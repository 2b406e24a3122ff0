package gateway

import "math/rand/v2"

// maxRequestID bounds the request ids that callers choose, in bytes.
const maxRequestID = 128

// validRequestID reports whether a caller's request id is used: 1 to 128 of
// `A-Z a-z 0-9 _ . -`. It appears in headers, bodies and logs.
func validRequestID(id []byte) bool {
	if len(id) == 0 || len(id) > maxRequestID {
		return false
	}
	for _, c := range id {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

// newRequestID returns 20 random characters. They name a request in logs and
// are no secret.
func newRequestID() string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	var id [20]byte
	for i := 0; i < len(id); i += 10 {
		bits := rand.Uint64()
		for j := range 10 {
			id[i+j] = alphabet[bits&31]
			bits >>= 5
		}
	}
	return string(id[:])
}
