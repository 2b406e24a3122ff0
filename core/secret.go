package core

import "time"

// MaxRetiredSecrets bounds the secrets of one endpoint that are retired and still
// valid at the same time. With the current one it bounds the signatures of a
// delivery.
const MaxRetiredSecrets = 5

// SecretPrefixLength is how much of a signing secret is shown after its
// creation, in bytes: `whsec_` and six characters.
const SecretPrefixLength = 12

// Secret describes a signing secret without containing it: core/sign derives
// the secret itself from the master key KID, the salt and the names of
// organization, endpoint and version, and compares it with Hash before use.
type Secret struct {
	KID       string    `json:"kid"`
	Version   uint32    `json:"version"` // 1 for the endpoint's first secret, then counted up
	Salt      []byte    `json:"salt"`    // 32 random bytes
	Hash      []byte    `json:"hash"`    // SHA-256 of the 24 secret bytes
	Prefix    string    `json:"prefix"`  // the first 12 characters of `whsec_…`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: the current secret
}

// ValidAt reports whether the secret signs at now.
func (s *Secret) ValidAt(now time.Time) bool {
	return s.ExpiresAt.IsZero() || now.Before(s.ExpiresAt)
}
