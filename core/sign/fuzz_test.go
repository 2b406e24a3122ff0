package sign_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/core/sign"
)

// FuzzKeyring: master keys are read as they are spelt in one way, or refused with an
// error that repeats no part of what may be a key.
func FuzzKeyring(f *testing.F) {
	key := masterKey("k1", 7)
	for _, text := range []string{key, key + "," + masterKey("k-2_X", 9), " " + key + " ,\n" + masterKey("b", 0), key + "," + key, "k1:", ":", "", key[3:], "k1:" + strings.Repeat("_", 43) + "="} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ring, err := sign.ParseKeyring(text)
		if err != nil {
			for entry := range strings.SplitSeq(text, ",") {
				_, secret, _ := strings.Cut(strings.TrimSpace(entry), ":")
				if len(secret) >= 20 && strings.Contains(err.Error(), secret) {
					t.Fatalf("the error %q repeats %q", err, secret)
				}
			}
			return
		}
		prints := ring.Fingerprints()
		if entries := strings.Split(text, ","); len(entries) != len(prints) {
			t.Fatalf("%d keys of %d entries", len(prints), len(entries))
		}
		for i, entry := range strings.Split(text, ",") {
			kid, encoded, _ := strings.Cut(strings.TrimSpace(entry), ":")
			raw, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil || len(raw) != 32 || base64.StdEncoding.EncodeToString(raw) != encoded || !strings.HasPrefix(prints[i], kid+":") {
				t.Fatalf("accepted %q as %s", entry, prints[i])
			}
			if strings.Contains(ring.String(), encoded) {
				t.Fatal("a keyring prints a key")
			}
		}
		if len(ring.Weak()) > len(prints) {
			t.Fatalf("weak are %q of %q", ring.Weak(), prints)
		}
	})
}
