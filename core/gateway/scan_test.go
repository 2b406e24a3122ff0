package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// scanAll reads data as one document, the way the handlers do.
func scanAll(data []byte) (s scanner, ok bool) {
	s.reset(data)
	_, ok = s.value(0)
	return s, ok && s.end()
}

func TestScanner(t *testing.T) {
	t.Parallel()
	tests := []struct {
		json string
		at   int // offset of the problem; -1: none
	}{
		{`null`, -1}, {` true `, -1}, {`false`, -1}, {`""`, -1}, {`[]`, -1}, {`{}`, -1}, {"\t\r\n [ ] ", -1},
		{`0`, -1}, {`-0`, -1}, {`-0.0e+0`, -1}, {`1e400`, -1}, {`1E-5`, -1}, {`123456789012345678901234567890.5`, -1},
		{`{"a":1,"a":[1,{"b":[]},"x"],"":{}}`, -1}, {`[[],{},[[]],""]`, -1},
		{`"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud800"`, -1}, {`"0123456789abcdef\n0123456789"`, -1}, {"\"\u00e9\U0001F600\x7f\"", -1},
		{``, 0}, {`   `, 3}, {`nul`, 0}, {`nulL`, 0}, {`True`, 0}, {`truefalse`, 4}, {`NaN`, 0}, {`Infinity`, 0}, {`-Infinity`, 1},
		{`01`, 1}, {`-`, 1}, {`1.`, 2}, {`.5`, 0}, {`1e`, 2}, {`1e+`, 3}, {`+1`, 0}, {`0x10`, 1}, {`1_000`, 1}, {`--1`, 1},
		{`"`, 1}, {`"abc`, 4}, {`"0123456789`, 11}, {`"\`, 1}, {`"\x"`, 1}, {`"\u12"`, 1}, {`"\u12g4"`, 1}, {"\"a\nb\"", 2}, {"\"0123456789\x00\"", 11},
		{`'a'`, 0}, {`[`, 1}, {`[1`, 2}, {`[1,`, 3}, {`[1,]`, 3}, {`[,1]`, 1}, {`[1 2]`, 3}, {`[1}`, 2}, {`]`, 0}, {`[[]`, 3}, {`[]]`, 2},
		{`{`, 1}, {`{"a"`, 4}, {`{"a":`, 5}, {`{"a":}`, 5}, {`{"a":1`, 6}, {`{"a":1,`, 7}, {`{"a":1,}`, 7}, {`{"a" 1}`, 5}, {`{a:1}`, 1},
		{`{1:1}`, 1}, {`{"a":1]`, 6}, {`{"a":1 "b":2}`, 7}, {`{,}`, 1}, {`{"a":{"b":1}`, 12},
		{`1 1`, 2}, {`{} x`, 3}, {`[1] // c`, 4}, {"\ufeff{}", 0}, {"[1]\x00", 3}, {"\x0b1", 0},
	}
	for _, tt := range tests {
		s, ok := scanAll([]byte(tt.json))
		at := -1
		if !ok {
			at = s.at
		}
		if at != tt.at || ok != (s.problem == "") {
			t.Errorf("%q: problem %q at %d, want at %d", tt.json, s.problem, at, tt.at)
		}
		if std := json.Valid([]byte(tt.json)); std != ok {
			t.Errorf("%q: accepted %t, encoding/json says %t", tt.json, ok, std)
		}
	}
}

func TestScannerDepth(t *testing.T) {
	t.Parallel()
	for _, pair := range []string{"[]", "{}"} {
		for _, depth := range []int{1, 63, 64, 65, maxDepth, maxDepth + 1, 10_000} {
			open, inner := strings.Repeat("[", depth), strings.Repeat("]", depth)
			if pair == "{}" {
				open, inner = strings.Repeat(`{"a":`, depth)+"0", strings.Repeat("}", depth)
			}
			s, ok := scanAll([]byte(open + inner))
			if !ok {
				t.Fatalf("%s %d deep: %s", pair, depth, s.problem)
			}
			if deep := s.tooDeep >= 0; deep != (depth > maxDepth) {
				t.Errorf("%s %d deep: too deep %t", pair, depth, deep)
			}
		}
	}
	// A closed level does not count.
	if s, ok := scanAll([]byte("[" + strings.Repeat("[[]],", 500) + "0]")); !ok || s.tooDeep >= 0 {
		t.Errorf("siblings: %s, too deep at %d", s.problem, s.tooDeep)
	}
	// Brackets of the wrong kind are found at any depth.
	for depth := range 200 {
		data := strings.Repeat("[", depth) + `{"a":[]]` + strings.Repeat("]", depth)
		if _, ok := scanAll([]byte(data)); ok {
			t.Fatalf("mismatched bracket accepted below %d arrays", depth)
		}
	}
}

func FuzzScanner(f *testing.F) {
	for _, seed := range []string{`{"a":[1.5e-3,"\u00e9",{}],"b":null}`, `[[[]]]`, `"\ud800x"`, `{"a":1,}`, "\"\x1f\"", `-`, `tru`, strings.Repeat("[", 300)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, ok := scanAll(data)
		// encoding/json accepts invalid UTF-8 in strings, as the scanner does.
		if std := json.Valid(data); ok != std {
			// Its depth limit is the only difference.
			if !(ok && bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > 10_000) {
				t.Fatalf("accepted %t, encoding/json says %t", ok, std)
			}
		}
		if bounded := bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) < 10_000; bounded && ok != gjson.ValidBytes(data) {
			t.Fatalf("accepted %t, gjson does not agree", ok)
		}
		if !ok && (s.at < 0 || s.at > len(data)) {
			t.Fatalf("problem %q at %d of %d bytes", s.problem, s.at, len(data))
		}
		if at := invalidUTF8(data); (at < 0) != utf8.Valid(data) || at >= 0 && !utf8.Valid(data[:at]) {
			t.Fatalf("invalidUTF8 = %d", at)
		}
	})
}

func TestUnquote(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`""`: "", `"abc"`: "abc", `"\u0074ype"`: "type", `"a\"b"`: `a"b`, `"\ud83d\ude00"`: "\U0001F600", `"\ud800"`: "\uFFFD",
	} {
		if got := string(unquote([]byte(raw))); got != want {
			t.Errorf("unquote(%s) = %q, want %q", raw, got, want)
		}
	}
}

func BenchmarkScanner(b *testing.B) {
	for name, data := range map[string][]byte{
		"text":    []byte(`{"note":"` + strings.Repeat("lorem ipsum dolor ", 56) + `"}`),
		"numbers": []byte(`[` + strings.Repeat("12.5,", 200) + `0]`),
		"members": []byte(`{` + strings.Repeat(`"name":"value",`, 66) + `"a":1}`),
	} {
		b.Run(name, func(b *testing.B) {
			var s scanner
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				s.reset(data)
				if _, ok := s.value(0); !ok {
					b.Fatal(s.problem)
				}
			}
		})
	}
}
