package sign

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	masterKeyBytes = 32
	maxMasterKeys  = 32 // far above any rotation plan; bounds the configuration
	maxKIDLength   = 32 // bytes
)

var errNotBase64 = errors.New("not standard base64")

// Keyring holds the master keys. The first one derives new secrets, the others
// keep older secrets working. It is immutable and safe for concurrent use, and
// prints as fingerprints only.
type Keyring struct {
	keys []masterKey
}

type masterKey struct {
	kid string
	key []byte
}

// ParseKeyring reads master keys in the form `kid:base64,kid2:base64`, where
// kid is 1 to 32 of `A-Z a-z 0-9 _ -` and the base64 (standard, padded) is of
// exactly 32 bytes. White space around an entry is ignored, so that the list may
// come from a file. No error repeats any part of a key.
func ParseKeyring(s string) (*Keyring, error) {
	if strings.TrimSpace(s) == "" {
		return nil, errors.New("no master key given")
	}
	k := &Keyring{}
	n := 0
	for entry := range strings.SplitSeq(s, ",") {
		n++
		if n > maxMasterKeys {
			return nil, fmt.Errorf("more than %d master keys", maxMasterKeys)
		}
		m, err := parseMasterKey(strings.TrimSpace(entry))
		if err != nil {
			return nil, fmt.Errorf("master key %d: %w", n, err)
		}
		if k.find(m.kid) != nil {
			return nil, fmt.Errorf("master key %d: kid %q is given twice", n, m.kid)
		}
		k.keys = append(k.keys, m)
	}
	return k, nil
}

func parseMasterKey(entry string) (masterKey, error) {
	kid, encoded, ok := strings.Cut(entry, ":")
	if !ok {
		// What stands here may be a bare key: it must not reach a log.
		return masterKey{}, errors.New("not of the form kid:base64")
	}
	if !validKID(kid) {
		return masterKey{}, fmt.Errorf("kid is not 1 to %d of A-Z a-z 0-9 _ -", maxKIDLength)
	}
	key, err := decodeBase64(encoded)
	if err != nil {
		return masterKey{}, fmt.Errorf("kid %q: the key is %w", kid, err)
	}
	if len(key) != masterKeyBytes {
		return masterKey{}, fmt.Errorf("kid %q: the key has %d bytes, not %d", kid, len(key), masterKeyBytes)
	}
	return masterKey{kid: kid, key: key}, nil
}

// decodeBase64 reads standard base64 in its one canonical spelling. The library
// alone would skip line breaks, and its errors name positions in the secret.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errNotBase64
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errNotBase64
	}
	return b, nil
}

func validKID(kid string) bool {
	if kid == "" || len(kid) > maxKIDLength {
		return false
	}
	for i := range len(kid) {
		c := kid[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// find returns the key named kid, or nil. Which kids exist is no secret, so the
// search need not take constant time.
func (k *Keyring) find(kid string) []byte {
	for _, m := range k.keys {
		if m.kid == kid {
			return m.key
		}
	}
	return nil
}

// Fingerprints returns `kid:xxxxxxxx` for every key in order, where the x are
// the first 8 hexadecimal digits of the key's SHA-256. They tell keys apart in
// logs and give nothing away.
func (k *Keyring) Fingerprints() []string {
	out := make([]string, len(k.keys))
	for i, m := range k.keys {
		sum := sha256.Sum256(m.key)
		out[i] = m.kid + ":" + hex.EncodeToString(sum[:4])
	}
	return out
}

// leastDistinct is how many different values the bytes of a random key have at
// least. Of 32 random ones some 30 differ; fewer than 20 come once in 10¹³ keys.
const leastDistinct = 20

// Weak returns the kids of keys that cannot be random: too few of their bytes
// differ, or all of them are printable, as those of a password.
func (k *Keyring) Weak() []string {
	var kids []string
	for _, m := range k.keys {
		var seen [256]bool
		distinct, printable := 0, true
		for _, b := range m.key {
			if !seen[b] {
				seen[b] = true
				distinct++
			}
			printable = printable && ' ' <= b && b <= '~'
		}
		if distinct < leastDistinct || printable {
			kids = append(kids, m.kid)
		}
	}
	return kids
}

// String returns the fingerprints, so that a keyring printed by mistake shows
// no key.
func (k *Keyring) String() string { return "keyring[" + strings.Join(k.Fingerprints(), " ") + "]" }

// GoString is String, for the verb %#v.
func (k *Keyring) GoString() string { return k.String() }
