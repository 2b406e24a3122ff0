// Package leak looks for secrets where none may be: in files, in Redis, in what
// programs answer. It reads everything once, however many secrets it looks for, and
// keeps one buffer of it in memory.
package leak

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	bufferSize = 64 << 10 // bytes of a reader at a time

	// partSize is how long the parts of a secret are that are looked for, in bytes:
	// what writes a secret may cut or escape it somewhere. Ten characters of base64
	// are sixty bits, which nothing shows by chance.
	partSize = 10

	// hashBits is the size of the filter that spares nearly every byte the map.
	hashBits = 16

	// mostFound bounds what is remembered: beyond it everything is lost anyway.
	mostFound = 1000
)

// Find is a secret in a place where it must not be.
type Find struct{ What, Place string }

func (f Find) String() string { return f.What + " in " + f.Place }

// Finder looks for the secrets that it was told. One goroutine may use it.
type Finder struct {
	needles map[uint64][]needle // by the first eight bytes
	filter  [1 << hashBits]bool
	longest int
	found   []Find
	read    int64
	buf     []byte
}

// needle is a part of a spelling of a secret.
type needle struct {
	what string
	text []byte
}

// New returns a Finder that looks for nothing yet.
func New() *Finder { return &Finder{needles: make(map[uint64][]needle)} }

// Text adds a secret of printable characters, of which the first shown ones are
// public. It is looked for as it is, in hexadecimal and in base64.
func (f *Finder) Text(what, secret string, shown int) {
	hidden := secret[min(shown, len(secret)):]
	f.parts(what, hidden)
	f.encoded(what, []byte(secret[:shown]), []byte(hidden))
}

// Bytes adds secret bytes. They are looked for as they are, in hexadecimal, in both
// alphabets of base64, and as the list of numbers that %v and JSON make of them.
func (f *Finder) Bytes(what string, raw []byte) {
	f.parts(what+" as bytes", string(raw))
	f.encoded(what, nil, raw)
	list := strings.Trim(fmt.Sprint(raw), "[]")
	f.add(needle{what + " as numbers", []byte(list)})
	f.add(needle{what + " as numbers", []byte(strings.ReplaceAll(list, " ", ","))})
}

// SigningSecret adds `whsec_…`, of which twelve characters are public, and the bytes
// that it stands for.
func (f *Finder) SigningSecret(what string, raw []byte) {
	f.Text(what, "whsec_"+base64.StdEncoding.EncodeToString(raw), 12)
	f.Bytes(what, raw)
}

// encoded adds the hexadecimal and base64 spellings of hidden behind shown.
func (f *Finder) encoded(what string, shown, hidden []byte) {
	digits := hex.EncodeToString(hidden)
	f.parts(what+" in hexadecimal", digits)
	f.parts(what+" in hexadecimal", strings.ToUpper(digits))
	all := slices.Concat(shown, hidden)
	public := (len(shown)*8 + 5) / 6 // characters of base64 that shown bytes have a part in
	f.parts(what+" in base64", base64.RawStdEncoding.EncodeToString(all)[public:])
	f.parts(what+" in base64", base64.RawURLEncoding.EncodeToString(all)[public:])
}

// parts adds pieces of a spelling that lie side by side.
func (f *Finder) parts(what, text string) {
	for ; len(text) >= partSize; text = text[partSize:] {
		f.add(needle{what, []byte(text[:partSize])})
	}
}

func (f *Finder) add(n needle) {
	prefix := binary.LittleEndian.Uint64(n.text)
	for _, known := range f.needles[prefix] {
		if bytes.Equal(known.text, n.text) {
			return
		}
	}
	f.needles[prefix] = append(f.needles[prefix], n)
	f.filter[hash(prefix)] = true
	f.longest = max(f.longest, len(n.text))
}

// hash spreads eight bytes over the filter (Knuth's multiplicative hash).
func hash(prefix uint64) uint64 { return prefix * 0x9e3779b97f4a7c15 >> (64 - hashBits) }

// Read looks through all that r has. place names it.
func (f *Finder) Read(place string, r io.Reader) error {
	if len(f.buf) < bufferSize+f.longest {
		f.buf = make([]byte, bufferSize+f.longest)
	}
	kept := 0 // bytes of the last buffer that a secret may begin in
	for {
		n, err := io.ReadAtLeast(r, f.buf[kept:], 1)
		f.read += int64(n)
		text := f.buf[:kept+n]
		f.search(place, text)
		kept = copy(f.buf, text[max(0, len(text)-f.longest+1):])
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", place, err)
		}
	}
}

// search notes the secrets in text.
func (f *Finder) search(place string, text []byte) {
	for at := 0; at+8 <= len(text); at++ {
		prefix := binary.LittleEndian.Uint64(text[at:])
		if !f.filter[hash(prefix)] {
			continue
		}
		for _, n := range f.needles[prefix] {
			if find := (Find{n.what, place}); bytes.HasPrefix(text[at:], n.text) && len(f.found) < mostFound && !slices.Contains(f.found, find) {
				f.found = append(f.found, find)
			}
		}
	}
}

// Found returns what was found, each secret once in each of its spellings and places.
func (f *Finder) Found() []Find { return f.found }

// Looked returns how many bytes were looked through.
func (f *Finder) Looked() int64 { return f.read }
