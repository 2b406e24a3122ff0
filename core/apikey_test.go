package core

import (
	"crypto/sha256"
	"testing"
	"time"
)

func TestAPIKeyRoundTrip(t *testing.T) {
	t.Parallel()
	for range 200 {
		key := NewAPIKey()
		hash, ok := HashAPIKey(key)
		if !ok || hash != sha256.Sum256([]byte(key)) {
			t.Fatalf("HashAPIKey(%q) = %x, %t; want its SHA-256", key, hash, ok)
		}
	}
}

func TestHashAPIKeyPinned(t *testing.T) {
	t.Parallel()
	// CRC-32/IEEE of "sp_" and thirty zeros, in base62: computed with zlib.
	const key = "sp_0000000000000000000000000000003zYQqW"
	if _, ok := HashAPIKey(key); !ok {
		t.Errorf("HashAPIKey(%q) refuses a key with the right checksum", key)
	}
}

func TestHashAPIKeyRefusesJunk(t *testing.T) {
	t.Parallel()
	good := NewAPIKey()
	swapped := []byte(good)
	for i := 3; i < len(swapped)-1; i++ {
		if swapped[i] != swapped[i+1] {
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			break
		}
	}
	for name, key := range map[string]string{
		"empty": "", "prefix only": "sp_", "too short": good[:len(good)-1], "too long": good + "0",
		"other prefix": "sk_" + good[3:], "two characters swapped": string(swapped),
		"foreign character": good[:10] + "-" + good[11:], "upper case prefix": "SP_" + good[3:],
	} {
		if _, ok := HashAPIKey(key); ok {
			t.Errorf("%s: HashAPIKey(%q) accepts it", name, key)
		}
	}
}

func FuzzHashAPIKey(f *testing.F) {
	f.Add(NewAPIKey())
	f.Add("sp_")
	f.Add("")
	f.Fuzz(func(t *testing.T, key string) {
		if _, ok := HashAPIKey(key); ok {
			if string(appendCheck([]byte(key[:APIKeyLength-keyCheckLength]))) != key {
				t.Errorf("HashAPIKey accepts %q, whose checksum is wrong", key)
			}
		}
	})
}

func TestScopes(t *testing.T) {
	t.Parallel()
	scopes, err := ParseScopes("read, publish,read")
	if err != nil || len(scopes) != 2 {
		t.Fatalf("ParseScopes = %v, %v; want read and publish once each", scopes, err)
	}
	for _, bad := range []string{"", "write", "read,,admin"} {
		if _, err := ParseScopes(bad); err == nil {
			t.Errorf("ParseScopes(%q) accepts it", bad)
		}
	}
	admin := APIKey{Scopes: []Scope{ScopeAdmin}}
	if !admin.Allows(ScopeRead) || !admin.Allows(ScopeAdmin) || admin.Allows(ScopePublish) {
		t.Error("admin must include read and nothing else")
	}
	read := APIKey{Scopes: []Scope{ScopeRead}}
	if read.Allows(ScopeAdmin) {
		t.Error("read must not include admin")
	}
}

func TestAPIKeyExpiry(t *testing.T) {
	t.Parallel()
	now := time.Now()
	if (&APIKey{}).Expired(now) {
		t.Error("a key without expiry has expired")
	}
	k := APIKey{ExpiresAt: now}
	if !k.Expired(now) || k.Expired(now.Add(-time.Millisecond)) {
		t.Error("a key must expire exactly at its expiry")
	}
}
