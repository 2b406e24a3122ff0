package core

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"
)

const (
	keyPrefix       = "sp_"
	keyRandomLength = 30 // base62 characters, 178 bits
	keyCheckLength  = 6  // base62 characters, 32 bits of CRC-32

	// APIKeyLength is the length of every API key, in bytes.
	APIKeyLength = len(keyPrefix) + keyRandomLength + keyCheckLength

	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// Scope is something an API key may do.
type Scope string

// The scopes. ScopeAdmin includes ScopeRead.
const (
	ScopeRead    Scope = "read"
	ScopeAdmin   Scope = "admin"
	ScopePublish Scope = "publish"
)

// APIKey is what is kept of an API key. The key itself is shown once and never
// stored; Redis finds this record by the key's SHA-256. A plain hash is enough
// for 178 random bits, and costs nothing on the way of an event.
type APIKey struct {
	ID           string    `json:"id"`
	Organization string    `json:"organization"`
	Name         string    `json:"name"` // chosen by the operator; may be empty
	Scopes       []Scope   `json:"scopes"`
	Hint         string    `json:"hint"` // the key's first characters, to tell keys apart
	CreatedAt    time.Time `json:"created_at"`
	ExpiresAt    time.Time `json:"expires_at,omitzero"` // zero: never
}

// Allows reports whether the key has scope s.
func (k *APIKey) Allows(s Scope) bool {
	return slices.Contains(k.Scopes, s) || s == ScopeRead && slices.Contains(k.Scopes, ScopeAdmin)
}

// Expired reports whether the key is no longer valid at now.
func (k *APIKey) Expired(now time.Time) bool {
	return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)
}

// NewAPIKey returns a fresh key: `sp_`, 30 random base62 characters and 6 of the
// CRC-32 (IEEE) of all that stands before.
func NewAPIKey() string {
	out := make([]byte, 0, APIKeyLength)
	out = append(out, keyPrefix...)
	var raw [64]byte
	for len(out) < len(keyPrefix)+keyRandomLength {
		rand.Read(raw[:])
		for _, b := range raw {
			// 248 = 4·62: what lies above would favour the first characters.
			if b < 248 && len(out) < len(keyPrefix)+keyRandomLength {
				out = append(out, base62[b%62])
			}
		}
	}
	return string(appendCheck(out))
}

func appendCheck(dst []byte) []byte {
	sum := crc32.ChecksumIEEE(dst)
	var digits [keyCheckLength]byte
	for i := keyCheckLength - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return append(dst, digits[:]...)
}

// HashAPIKey returns the SHA-256 of key, under which its record is found. ok is
// false when key cannot be an API key (length, alphabet or checksum), which is
// decided without asking Redis.
func HashAPIKey(key string) (hash [sha256.Size]byte, ok bool) {
	if len(key) != APIKeyLength || !strings.HasPrefix(key, keyPrefix) {
		return hash, false
	}
	for i := len(keyPrefix); i < len(key); i++ {
		c := key[i]
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z') {
			return hash, false
		}
	}
	var buf [APIKeyLength]byte
	body := append(buf[:0], key[:APIKeyLength-keyCheckLength]...)
	if string(appendCheck(body)) != key {
		return hash, false
	}
	return sha256.Sum256([]byte(key)), true
}

// APIKeyHint returns the part of a key that may be shown: its first 8 bytes.
func APIKeyHint(key string) string { return key[:min(8, len(key))] }

// ParseScopes reads a comma-separated list of scopes. The error names the first
// word that is none; an empty list is an error too.
func ParseScopes(list string) ([]Scope, error) {
	var scopes []Scope
	for word := range strings.SplitSeq(list, ",") {
		s := Scope(strings.TrimSpace(word))
		switch s {
		case ScopeRead, ScopeAdmin, ScopePublish:
			if !slices.Contains(scopes, s) {
				scopes = append(scopes, s)
			}
		default:
			return nil, fmt.Errorf("%q is not a scope (read, admin, publish)", string(s))
		}
	}
	return scopes, nil
}
