package sign_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/sign"
)

var now = time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)

func TestNewSecret(t *testing.T) {
	t.Parallel()
	k := mustKeyring(t, masterKey("new", 1), masterKey("old", 2))
	ref := core.EndpointRef{Organization: "acme", ID: core.NewEndpointID()}
	secret, record := k.NewSecret(ref, 3, now)

	key, err := sign.ParseSecret(secret)
	if err != nil {
		t.Fatalf("ParseSecret: %v", err)
	}
	hash := sha256.Sum256(key)
	if len(key) != sign.SecretBytes || len(record.Salt) != 32 || !bytes.Equal(record.Hash, hash[:]) {
		t.Errorf("secret of %d bytes, salt of %d, hash matches: %t", len(key), len(record.Salt), bytes.Equal(record.Hash, hash[:]))
	}
	if record.KID != "new" || record.Version != 3 || !record.CreatedAt.Equal(now) || !record.ExpiresAt.IsZero() {
		t.Errorf("record = %+v", record)
	}
	if record.Prefix != secret[:core.SecretPrefixLength] || !strings.HasPrefix(record.Prefix, "whsec_") {
		t.Errorf("prefix %q of %q", record.Prefix, secret)
	}
	stored, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(stored), secret[core.SecretPrefixLength:]) {
		t.Errorf("the record contains the secret: %s", stored)
	}
	if again, _ := k.NewSecret(ref, 3, now); again == secret {
		t.Error("two secrets of the same version are equal: the salt is not random")
	}
}

func TestDeriveYieldsTheSecretThatWasShown(t *testing.T) {
	t.Parallel()
	older := mustKeyring(t, masterKey("k1", 1))
	rotated := mustKeyring(t, masterKey("k2", 2), masterKey("k1", 1))
	ref := core.EndpointRef{Organization: "acme", ID: core.NewEndpointID()}
	secret, record := older.NewSecret(ref, 1, now)

	key, err := sign.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	want := sign.NewSigner(key).AppendSignature(nil, "evt_1", 1, []byte("{}"))
	for name, k := range map[string]*sign.Keyring{"same keyring": older, "after a rotation of the master key": rotated} {
		signer, err := k.Derive(ref, &record)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := signer.AppendSignature(nil, "evt_1", 1, []byte("{}")); !bytes.Equal(got, want) {
			t.Errorf("%s: signature %s, want %s", name, got, want)
		}
	}
}

func TestDeriveRefuses(t *testing.T) {
	t.Parallel()
	k := mustKeyring(t, masterKey("k1", 1))
	ref := core.EndpointRef{Organization: "acme", ID: core.NewEndpointID()}
	_, good := k.NewSecret(ref, 1, now)

	tests := []struct {
		name   string
		ring   *sign.Keyring
		ref    core.EndpointRef
		change func(*core.Secret)
	}{
		{name: "kid unknown", ring: mustKeyring(t, masterKey("k2", 1)), ref: ref},
		{name: "other key under the same kid", ring: mustKeyring(t, masterKey("k1", 2)), ref: ref},
		{name: "record of another organization", ring: k, ref: core.EndpointRef{Organization: "evil", ID: ref.ID}},
		{name: "record of another endpoint", ring: k, ref: core.EndpointRef{Organization: "acme", ID: core.NewEndpointID()}},
		{name: "another version", ring: k, ref: ref, change: func(s *core.Secret) { s.Version++ }},
		{name: "another salt", ring: k, ref: ref, change: func(s *core.Secret) { s.Salt = bytes.Repeat([]byte{7}, 32) }},
		{name: "salt missing", ring: k, ref: ref, change: func(s *core.Secret) { s.Salt = nil }},
		{name: "hash missing", ring: k, ref: ref, change: func(s *core.Secret) { s.Hash = nil }},
		{name: "hash cut short", ring: k, ref: ref, change: func(s *core.Secret) { s.Hash = s.Hash[:16] }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			record := good
			if tt.change != nil {
				tt.change(&record)
			}
			if signer, err := tt.ring.Derive(tt.ref, &record); !errors.Is(err, sign.ErrKeyMismatch) || signer != nil {
				t.Errorf("Derive = %v, %v; want ErrKeyMismatch", signer, err)
			}
		})
	}
}

// TestDerivation checks the documented derivation against HKDF written out by
// hand (RFC 5869: one extract, one expand block): secrets in use depend on it,
// so it must never change.
func TestDerivation(t *testing.T) {
	t.Parallel()
	k := mustKeyring(t, masterKey("k1", 9))
	ref := core.EndpointRef{Organization: "acme", ID: "2b1f0a52-6f0c-4a7e-9d43-0a4b6f1d9c11"}
	secret, record := k.NewSecret(ref, 7, now)

	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	prefixed := func(b []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	}
	prk := mac(record.Salt, bytes.Repeat([]byte{9}, 32))
	okm := mac(prk, []byte("sealpost/signing-secret/v1"), prefixed([]byte(ref.Organization)),
		prefixed([]byte(ref.ID)), prefixed([]byte{0, 0, 0, 7}), []byte{1})
	if want := "whsec_" + base64.StdEncoding.EncodeToString(okm[:24]); secret != want {
		t.Errorf("secret %s, want %s", secret, want)
	}
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	encode := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xAB}, n)) }
	tests := []struct {
		name, in string
		bytes    int // 0: refused
	}{
		{"official example", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 24},
		{"longest", "whsec_" + encode(64), 64},
		{"too short", "whsec_" + encode(23), 0},
		{"too long", "whsec_" + encode(65), 0},
		{"no prefix", encode(24), 0},
		{"other prefix", "whsk_" + encode(24), 0},
		{"not base64", "whsec_" + strings.Repeat("!", 32), 0},
		{"newline inside", "whsec_" + encode(24)[:16] + "\n" + encode(24)[16:], 0},
		{"empty", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key, err := sign.ParseSecret(tt.in)
			if (err == nil) != (tt.bytes > 0) || len(key) != tt.bytes {
				t.Errorf("ParseSecret = %d bytes, %v; want %d", len(key), err, tt.bytes)
			}
			if err != nil && strings.Contains(err.Error(), "q6ur") {
				t.Errorf("error shows the secret: %v", err)
			}
		})
	}
}
