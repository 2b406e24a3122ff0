package gateway

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"unicode/utf8"
)

const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// str reads a string; the current byte is its opening quote.
func (s *scanner) str() bool {
	data, i := s.data, s.pos+1
	for {
		// Eight bytes at a time: find the first that is a quote, a backslash or
		// below 0x20. False positives cannot occur before the first true one.
		for i+8 <= len(data) {
			v := binary.LittleEndian.Uint64(data[i:])
			quote, slash := v^(lows*'"'), v^(lows*'\\')
			hit := (v-lows*0x20)&^v | (quote-lows)&^quote | (slash-lows)&^slash
			if hit &= highs; hit != 0 {
				i += bits.TrailingZeros64(hit) / 8
				break
			}
			i += 8
		}
		if i >= len(data) {
			return s.fail(len(data), "unexpected end within a string")
		}
		switch c := data[i]; {
		case c == '"':
			s.pos = i + 1
			return true
		case c == '\\':
			n := escapeLength(data[i:])
			if n == 0 {
				return s.fail(i, "invalid escape in a string")
			}
			i += n
		case c < 0x20:
			return s.fail(i, "control character in a string")
		default:
			i++
		}
	}
}

// escapeLength returns the length of the escape sequence at the start of b, or
// 0 if it is none.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
				return 0
			}
		}
		return 6
	}
	return 0
}

// number reads a number; the current byte is `-` or a digit.
func (s *scanner) number() bool {
	if s.data[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.data) && s.data[s.pos] == '0' {
		s.pos++ // nothing but a fraction or an exponent may follow
	} else if !s.digits() {
		return false
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		if s.pos++; !s.digits() {
			return false
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start || s.unexpected("a digit")
}

func (s *scanner) literal(word string) bool {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.fail(s.pos, "expected a value")
	}
	s.pos += len(word)
	return true
}

// invalidUTF8 returns the offset of the first byte that is not part of valid
// UTF-8, or -1.
func invalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// isString reports whether a raw value is a string.
func isString(raw []byte) bool { return len(raw) > 0 && raw[0] == '"' }

// plain returns the content of a raw string that has no escapes; ok is false
// for one that has.
func plain(raw []byte) (content []byte, ok bool) {
	content = raw[1 : len(raw)-1]
	for _, c := range content {
		if c == '\\' {
			return nil, false
		}
	}
	return content, true
}

// unquote returns the content of a raw string that the scanner has accepted.
func unquote(raw []byte) []byte {
	if content, ok := plain(raw); ok {
		return content
	}
	var content string
	if err := json.Unmarshal(raw, &content); err != nil {
		return nil // BUG: the scanner has checked it
	}
	return []byte(content)
}
