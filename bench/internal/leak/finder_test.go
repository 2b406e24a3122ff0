package leak

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/leaktest"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

var shared redistest.Shared

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m, shared.Stop)) }

// secrets are one of each kind.
type secrets struct {
	signing, master []byte
	key             string
}

func newSecrets() (secrets, *Finder) {
	s := secrets{signing: make([]byte, 24), master: make([]byte, 32), key: core.NewAPIKey()}
	rand.Read(s.signing)
	rand.Read(s.master)
	f := New()
	f.SigningSecret("the signing secret", s.signing)
	f.Bytes("the master key", s.master)
	f.Text("the API key", s.key, len(core.APIKeyHint(s.key)))
	return s, f
}

// spellings are the forms in which a secret could lie somewhere.
func (s *secrets) spellings() map[string][]byte {
	all := map[string][]byte{
		"API key":               []byte(s.key),
		"API key hexadecimal":   []byte(hex.EncodeToString([]byte(s.key))),
		"API key base64":        []byte(base64.StdEncoding.EncodeToString([]byte(s.key))),
		"second half of a key":  []byte(s.key[len(s.key)/2:]),
		"signing secret":        []byte("whsec_" + base64.StdEncoding.EncodeToString(s.signing)),
		"signing secret base64": []byte(base64.URLEncoding.EncodeToString([]byte("whsec_" + base64.StdEncoding.EncodeToString(s.signing)))),
	}
	for name, raw := range map[string][]byte{"signing": s.signing, "master": s.master} {
		all[name+" raw"] = raw
		all[name+" base64"] = []byte(base64.StdEncoding.EncodeToString(raw))
		all[name+" base64url"] = []byte(base64.RawURLEncoding.EncodeToString(raw))
		all[name+" hexadecimal"] = []byte(hex.EncodeToString(raw))
		all[name+" HEXADECIMAL"] = fmt.Appendf(nil, "%X", raw)
		all[name+" %v"] = fmt.Append(nil, raw)
		numbers := make([]int, len(raw))
		for i, b := range raw {
			numbers[i] = int(b)
		}
		list, _ := json.Marshal(numbers)
		all[name+" list"] = list
	}
	return all
}

// TestSpellings finds each form of a secret wherever it lies in a stream, also
// across the borders of buffers, and whatever the reader's steps.
func TestSpellings(t *testing.T) {
	t.Parallel()
	s, _ := newSecrets()
	for name, text := range s.spellings() {
		for _, at := range []int{0, 1, bufferSize - 1, bufferSize - len(text)/2, bufferSize, 3*bufferSize - 7} {
			hay := bytes.Repeat([]byte{'.'}, at+len(text)+bufferSize)
			copy(hay[at:], text)
			for step, r := range map[string]io.Reader{
				"whole": bytes.NewReader(hay), "halves": iotest.HalfReader(bytes.NewReader(hay)), "with error": iotest.DataErrReader(bytes.NewReader(hay)),
			} {
				f := New()
				f.SigningSecret("secret", s.signing)
				f.Bytes("master", s.master)
				f.Text("key", s.key, 8)
				if err := f.Read("here", r); err != nil {
					t.Fatal(err)
				}
				if len(f.Found()) == 0 || f.Looked() != int64(len(hay)) {
					t.Errorf("%s at %d, read %s: found %v in %d of %d bytes", name, at, step, f.Found(), f.Looked(), len(hay))
				}
			}
		}
	}
}

// TestBorder moves a secret over every offset at the end of the first buffer,
// read byte by byte.
func TestBorder(t *testing.T) {
	t.Parallel()
	s, f := newSecrets()
	hay := bytes.Repeat([]byte{'x'}, bufferSize+2*f.longest+100)
	for at := bufferSize - 64; at < bufferSize+f.longest; at++ {
		clear(hay)
		copy(hay[at:], s.key)
		g := New()
		g.Text("key", s.key, 8)
		if err := g.Read("", io.MultiReader(bytes.NewReader(hay[:at+7]), iotest.OneByteReader(bytes.NewReader(hay[at+7:])))); err != nil {
			t.Fatal(err)
		}
		if len(g.Found()) != 1 {
			t.Fatalf("at %d: found %v", at, g.Found())
		}
	}
}

// TestPublicParts: what may be shown is no find, nor is anybody else's secret.
func TestPublicParts(t *testing.T) {
	t.Parallel()
	s, f := newSecrets()
	other, _ := newSecrets()
	text := []string{core.APIKeyHint(s.key), "whsec_" + base64.StdEncoding.EncodeToString(s.signing)[:6]}
	for _, spelling := range other.spellings() {
		text = append(text, string(spelling))
	}
	noise := make([]byte, 4<<20)
	rand.Read(noise)
	if err := f.Read("", io.MultiReader(strings.NewReader(strings.Join(text, "\n")), bytes.NewReader(noise))); err != nil {
		t.Fatal(err)
	}
	if len(f.Found()) > 0 {
		t.Errorf("found %v", f.Found())
	}
}

// TestReadError: what could not be read is an error, not a clean place.
func TestReadError(t *testing.T) {
	t.Parallel()
	_, f := newSecrets()
	if err := f.Read("the pipe", iotest.ErrReader(io.ErrClosedPipe)); err == nil || !strings.Contains(err.Error(), "the pipe") {
		t.Errorf("error %v", err)
	}
	if f.Files(filepath.Join(t.TempDir(), "none")) == nil {
		t.Error("a folder that is not there was read")
	}
}

func TestRedis(t *testing.T) {
	t.Parallel()
	client := shared.Database(t).Client(t)
	ctx := t.Context()
	s, f := newSecrets()
	filler := func(i int) string { return fmt.Sprintf("entry %d", i) }
	plants := map[string]func(key string) error{
		"string": func(key string) error { return client.Set(ctx, key, "a"+string(s.signing), 0).Err() },
		"long string": func(key string) error { // across the pieces
			return client.Set(ctx, key, strings.Repeat("x", piece-8)+string(s.signing), 0).Err()
		},
		"hash":  func(key string) error { return client.HSet(ctx, key, "field", s.key).Err() },
		"field": func(key string) error { return client.HSet(ctx, key, s.key, "value").Err() },
		"set":   func(key string) error { return client.SAdd(ctx, key, "m"+s.key).Err() },
		"zset":  func(key string) error { return client.ZAdd(ctx, key, redis.Z{Member: s.key, Score: 1}).Err() },
		"list":  func(key string) error { return client.RPush(ctx, key, s.key).Err() },
		"stream": func(key string) error {
			return client.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []any{"f", s.key}}).Err()
		},
		"name": func(key string) error { return client.Set(ctx, key+s.key, "", 0).Err() },
	}
	for i := range 3 * page { // so that every collection has pages
		for _, err := range []error{
			client.HSet(ctx, "hash", filler(i), i).Err(), client.SAdd(ctx, "set", filler(i)).Err(), client.ZAdd(ctx, "zset", redis.Z{Member: filler(i), Score: 0}).Err(),
			client.RPush(ctx, "list", filler(i)).Err(), client.XAdd(ctx, &redis.XAddArgs{Stream: "stream", Values: []any{"f", filler(i)}}).Err(),
			client.Set(ctx, filler(i), "", 0).Err(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Redis(ctx, client); err != nil || len(f.Found()) > 0 {
		t.Fatalf("without a plant: %v, found %v", err, f.Found())
	}
	for kind, plant := range plants {
		if err := plant(kind); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Redis(ctx, client); err != nil {
		t.Fatal(err)
	}
	for kind := range plants {
		if !slices.ContainsFunc(f.Found(), func(found Find) bool { return strings.HasPrefix(found.Place, "the Redis key "+kind) }) {
			t.Errorf("nothing found in %s: %v", kind, f.Found())
		}
	}
}

func TestFilesAndURL(t *testing.T) {
	t.Parallel()
	s, f := newSecrets()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "appendonlydir"), 0o700); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"gateway.log": "{}\n" + s.key, "appendonlydir/a.aof": "SET\r\n" + string(s.signing), "clean.log": "nothing"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "not ready: ", base64.StdEncoding.EncodeToString(s.master))
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	if err := f.Files(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.URL(t.Context(), "/readyz", server.URL); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, found := range f.Found() {
		got = append(got, found.String())
	}
	slices.Sort(got)
	want := []string{"the API key in the file gateway.log", "the master key in base64 in /readyz", "the signing secret as bytes in the file appendonlydir/a.aof"}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

func BenchmarkRead(b *testing.B) {
	f := New()
	for i := range 50 {
		raw := make([]byte, 24)
		rand.Read(raw)
		f.SigningSecret(fmt.Sprint(i), raw)
	}
	hay := make([]byte, 16<<20)
	rand.Read(hay)
	b.SetBytes(int64(len(hay)))
	for b.Loop() {
		if err := f.Read("", bytes.NewReader(hay)); err != nil {
			b.Fatal(err)
		}
	}
}
