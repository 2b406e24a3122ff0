package sign

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/core"
)

// SecretBytes is the length of a secret that Sealpost makes, in bytes before
// base64: the least that Standard Webhooks 1.0.0 allows.
const SecretBytes = 24

const (
	secretPrefix   = "whsec_"
	maxSecretBytes = 64 // Standard Webhooks 1.0.0, "Signature scheme": 24 to 64
	saltBytes      = 32
	infoLabel      = "sealpost/signing-secret/v1"
)

// ErrKeyMismatch says that the master keys at hand do not yield the secret that
// an endpoint's record describes: its kid is unknown, or the derived secret has
// another hash. Nothing may be sent under such a secret.
var ErrKeyMismatch = errors.New("master key does not yield the endpoint's signing secret")

// NewSecret makes the secret number version of the endpoint ref under the first
// master key. It returns the secret in the form `whsec_…`, to be shown once, and
// the record of it, which does not contain it.
func (k *Keyring) NewSecret(ref core.EndpointRef, version uint32, now time.Time) (string, core.Secret) {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails (crypto/rand)
	first := k.keys[0]
	key := derive(first.key, salt, ref, version)
	hash := sha256.Sum256(key)
	secret := secretPrefix + base64.StdEncoding.EncodeToString(key)
	return secret, core.Secret{
		KID:       first.kid,
		Version:   version,
		Salt:      salt,
		Hash:      hash[:],
		Prefix:    secret[:core.SecretPrefixLength],
		CreatedAt: now,
	}
}

// Derive returns a signer for the secret that s describes. The error wraps
// ErrKeyMismatch and names the kid; the comparison takes constant time.
func (k *Keyring) Derive(ref core.EndpointRef, s *core.Secret) (*Signer, error) {
	master := k.find(s.KID)
	if master == nil {
		return nil, fmt.Errorf("%w: kid %q is not in the keyring", ErrKeyMismatch, s.KID)
	}
	key := derive(master, s.Salt, ref, s.Version)
	hash := sha256.Sum256(key)
	if subtle.ConstantTimeCompare(hash[:], s.Hash) != 1 {
		return nil, fmt.Errorf("%w: kid %q holds another key than the one that made version %d", ErrKeyMismatch, s.KID, s.Version)
	}
	return NewSigner(key), nil
}

// derive returns the 24 secret bytes. The HKDF info is the label, then
// organization, endpoint and version, each as its length in 4 bytes big-endian
// followed by its bytes; version itself is 4 bytes big-endian. The prefixes make
// the encoding injective: no two (organization, endpoint, version) share one.
func derive(master, salt []byte, ref core.EndpointRef, version uint32) []byte {
	info := make([]byte, 0, len(infoLabel)+len(ref.Organization)+len(ref.ID)+16)
	info = append(info, infoLabel...)
	info = binary.BigEndian.AppendUint32(info, uint32(len(ref.Organization)))
	info = append(info, ref.Organization...)
	info = binary.BigEndian.AppendUint32(info, uint32(len(ref.ID)))
	info = append(info, ref.ID...)
	info = binary.BigEndian.AppendUint32(info, 4)
	info = binary.BigEndian.AppendUint32(info, version)
	key, err := hkdf.Key(sha256.New, master, salt, string(info), SecretBytes)
	if err != nil {
		// Only a length beyond 255 hashes, or a FIPS mode that forbids keys
		// shorter than 14 bytes, can fail here; ours are 24 and 32.
		panic("sign: " + err.Error())
	}
	return key
}

// ParseSecret returns the HMAC key of a secret in the form `whsec_` + standard
// base64 of 24 to 64 bytes. No error repeats any part of the secret.
func ParseSecret(s string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(s, secretPrefix)
	if !ok {
		return nil, errors.New("secret does not begin with " + secretPrefix)
	}
	key, err := decodeBase64(encoded)
	if err != nil {
		return nil, fmt.Errorf("secret is %w", err)
	}
	if len(key) < SecretBytes || len(key) > maxSecretBytes {
		return nil, fmt.Errorf("secret has %d bytes, not %d to %d", len(key), SecretBytes, maxSecretBytes)
	}
	return key, nil
}
