package sign_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core/sign"
)

// masterKey returns an entry of a keyring whose 32 key bytes are all fill.
func masterKey(kid string, fill byte) string {
	return kid + ":" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

func mustKeyring(t testing.TB, entries ...string) *sign.Keyring {
	t.Helper()
	k, err := sign.ParseKeyring(strings.Join(entries, ","))
	if err != nil {
		t.Fatalf("ParseKeyring: %v", err)
	}
	return k
}

func TestParseKeyringAccepts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 32)
	tests := []struct {
		name, in string
		want     []string
	}{
		// The digests are of 32 bytes of 01, 02, 03 (printf | sha256sum).
		{name: "one", in: masterKey("k1", 1), want: []string{"k1:72cd6e84"}},
		{name: "several keep their order", in: masterKey("b", 2) + "," + masterKey("a", 1), want: []string{"b:75877bb4", "a:72cd6e84"}},
		{name: "white space and newlines as in a file", in: " " + masterKey("a", 1) + " ,\n" + masterKey("b", 2) + "\n", want: []string{"a:72cd6e84", "b:75877bb4"}},
		{name: "longest kid", in: masterKey(long, 1), want: []string{long + ":72cd6e84"}},
		{name: "every kind of character", in: masterKey("Az09_-", 1), want: []string{"Az09_-:72cd6e84"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k, err := sign.ParseKeyring(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, k.Fingerprints()); diff != "" {
				t.Errorf("Fingerprints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseKeyringRefuses(t *testing.T) {
	t.Parallel()
	secretText := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xAB}, 32))
	short := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xAB}, 31))
	tests := []struct{ name, in, says string }{
		{"empty", "", "no master key"},
		{"blank", " \n", "no master key"},
		{"bare key", secretText, "kid:base64"},
		{"no kid", ":" + secretText, "kid is not"},
		{"kid too long", strings.Repeat("k", 33) + ":" + secretText, "kid is not"},
		{"kid with a full stop", "a.b:" + secretText, "kid is not"},
		{"key and kid swapped", secretText + ":k1", "kid is not"},
		{"short key", "k1:" + short, "31 bytes"},
		{"long key", "k1:" + secretText[:43] + "A" + secretText, "65 bytes"},
		{"not base64", "k1:" + strings.Replace(secretText, "q", "!", 1), "standard base64"},
		{"url alphabet", "k1:" + strings.Repeat("_", 43) + "=", "standard base64"},
		{"empty key", "k1:", "0 bytes"},
		{"trailing comma", "k1:" + secretText + ",", "master key 2"},
		{"kid twice", "k1:" + secretText + "," + masterKey("k1", 2), "given twice"},
		{"too many", manyKeys(33), "more than 32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := sign.ParseKeyring(tt.in)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not say %q", err, tt.says)
			}
			for _, part := range []string{secretText[:10], short[:10]} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("error shows key material: %v", err)
				}
			}
		})
	}
}

func manyKeys(n int) string {
	entries := make([]string, n)
	for i := range entries {
		entries[i] = masterKey(fmt.Sprint("k", i), byte(i))
	}
	return strings.Join(entries, ",")
}

func TestKeyringPrintsNoKey(t *testing.T) {
	t.Parallel()
	k := mustKeyring(t, masterKey("k1", 0xAB))
	signer := sign.NewSigner(bytes.Repeat([]byte{0xAB}, 24))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{k, signer} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, "171") || strings.Contains(strings.ToLower(out), "abab") || strings.Contains(out, "0xab") || strings.Contains(out, "q6ur") {
				t.Errorf("%s shows key material: %s", verb, out)
			}
		}
	}
}

// TestWeak: keys that a person or a careless program made are told, random ones
// are not.
func TestWeak(t *testing.T) {
	t.Parallel()
	counted := make([]byte, 32)
	for i := range counted {
		counted[i] = byte(i % 16)
	}
	for name, key := range map[string][]byte{
		"zeros":      make([]byte, 32),
		"few":        counted,
		"a password": []byte("Correct-Horse_Battery.Staple+42!"),
		"hex digits": []byte("0123456789abcdef0123456789abcdef"),
	} {
		ring, err := sign.ParseKeyring("good:" + base64.StdEncoding.EncodeToString(random(32)) + ",bad:" + base64.StdEncoding.EncodeToString(key))
		if err != nil {
			t.Fatal(err)
		}
		if weak := ring.Weak(); !slices.Equal(weak, []string{"bad"}) {
			t.Errorf("%s: weak are %q, want bad alone", name, weak)
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
