package core

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// crockford is the alphabet of Crockford's base 32 in lower case: it sorts like
// the numbers it stands for and has no letters that are read as one another.
const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

// crockfordValues has the value of each byte that is a digit of crockford, and
// notCrockford for the others: a search in the alphabet for each digit of each id was
// a twentieth of a gateway's time.
var crockfordValues = func() (values [256]byte) {
	for i := range values {
		values[i] = notCrockford
	}
	for i := range len(crockford) {
		values[crockford[i]] = byte(i)
	}
	return values
}()

const notCrockford = 0xff

// How the ids that Sealpost gives begin.
const (
	EventIDPrefix    = "evt_"
	DeliveryIDPrefix = "whd_"
)

// MaxEventIDLength bounds the ids that producers choose, in bytes.
const MaxEventIDLength = 64

// NewEventID returns a fresh event id, `evt_` and 26 characters that sort by
// now. It contains no `.`, as Standard Webhooks 1.0.0 demands of webhook-id.
func NewEventID(now time.Time) string { return sortableID(EventIDPrefix, now) }

// NewDeliveryID returns a fresh delivery id, `whd_` and 26 characters that sort
// by now.
func NewDeliveryID(now time.Time) string { return sortableID(DeliveryIDPrefix, now) }

// NewKeyID returns a fresh id of an API key, `key_` and 26 characters. It names
// the key to operators and says nothing about the key itself.
func NewKeyID(now time.Time) string { return sortableID("key_", now) }

// sortableID returns prefix, 48 bits of Unix milliseconds and 80 random bits.
func sortableID(prefix string, now time.Time) string {
	var raw [packedIDSize]byte
	rand.Read(raw[6:]) // never fails (crypto/rand)
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		raw[i] = byte(ms >> (40 - 8*i))
	}
	return UnpackID(prefix, raw)
}

const (
	packedIDSize = 16 // bytes
	idDigits     = 26 // groups of 5 of the 128 bits, the first one of 3
)

// UnpackID returns the id of prefix and 16 bytes, of which the first six are its
// time in Unix milliseconds.
func UnpackID(prefix string, raw [16]byte) string {
	var buf [40]byte
	out := append(buf[:0], prefix...)
	high, low := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	for shift := 125; shift >= 0; shift -= 5 {
		var v uint64
		switch {
		case shift >= 64:
			v = high >> (shift - 64)
		case shift > 59:
			v = high<<(64-shift) | low>>shift
		default:
			v = low >> shift
		}
		out = append(out, crockford[v&31])
	}
	return string(out)
}

// PackID is the inverse of UnpackID. ok is false if id has another form, as those
// have that producers choose.
func PackID(prefix, id string) (raw [16]byte, ok bool) {
	digits, ok := strings.CutPrefix(id, prefix)
	if !ok || len(digits) != idDigits || digits[0] > '7' {
		return raw, false
	}
	var high, low uint64
	for i := range idDigits {
		v := crockfordValues[digits[i]]
		if v == notCrockford {
			return raw, false
		}
		high = high<<5 | low>>59
		low = low<<5 | uint64(v)
	}
	binary.BigEndian.PutUint64(raw[:8], high)
	binary.BigEndian.PutUint64(raw[8:], low)
	return raw, true
}

// packedTime returns the time of a packed id, in UTC.
func packedTime(raw [packedIDSize]byte) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(raw[:]) >> 16)).UTC()
}

// ValidDeliveryID reports whether s has the form of the ids that deliveries get.
func ValidDeliveryID(s string) bool {
	_, ok := PackID(DeliveryIDPrefix, s)
	return ok
}

// ValidEventID reports whether s may be an event's id: 1 to 64 of
// `A-Z a-z 0-9 _ -`.
func ValidEventID(s string) bool {
	if len(s) == 0 || len(s) > MaxEventIDLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// NewEndpointID returns a random UUID (version 4, RFC 9562) in its 36-character
// form.
func NewEndpointID() string {
	var raw [16]byte
	rand.Read(raw[:])
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], raw[0:4])
	hex.Encode(out[9:13], raw[4:6])
	hex.Encode(out[14:18], raw[6:8])
	hex.Encode(out[19:23], raw[8:10])
	hex.Encode(out[24:36], raw[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// ValidEndpointID reports whether s has the form of an endpoint id: a UUID in
// lower case. Anything else cannot exist, and Redis is not asked.
func ValidEndpointID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
				return false
			}
		}
	}
	return true
}

// NewToken returns 128 random bits in hexadecimal, for names that must never
// repeat: versions of an endpoint set, owners of a reservation.
func NewToken() string {
	var raw [16]byte
	rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}
