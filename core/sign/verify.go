package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// DefaultTolerance is how far a message's timestamp may lie from the receiver's
// clock, in either direction; the value that the reference libraries use.
const DefaultTolerance = 5 * time.Minute

// maxSignatures bounds the work that one header can ask for.
const maxSignatures = 32

// What Verify can find wrong with a message.
var (
	ErrMissingHeader = errors.New("webhook-id, webhook-timestamp or webhook-signature is missing")
	ErrBadTimestamp  = errors.New("webhook-timestamp is not a number of seconds")
	ErrTooOld        = errors.New("webhook-timestamp is too old")
	ErrTooNew        = errors.New("webhook-timestamp is too new")
	ErrNoMatch       = errors.New("no signature matches")
)

// Verify checks a received message: the timestamp lies within tolerance of now,
// and at least one `v1` signature was made by one of the keys (decoded secrets,
// see ParseSecret). header returns the value of a header, as http.Header.Get
// does; names are asked for in lower case. The body must be the exact bytes
// received. The error is one of the sentinels of this package.
func Verify(keys [][]byte, header func(name string) string, body []byte, now time.Time, tolerance time.Duration) error {
	id, timestamp, signatures := header(HeaderID), header(HeaderTimestamp), header(HeaderSignature)
	if id == "" || timestamp == "" || signatures == "" {
		return ErrMissingHeader
	}
	if err := checkTimestamp(timestamp, now, tolerance); err != nil {
		return err
	}
	given := decodeSignatures(signatures)
	for _, key := range keys {
		// The timestamp is signed as it was sent, not as it was understood.
		st := state{mac: hmac.New(sha256.New, key), head: []byte(id + "." + timestamp)}
		sum := st.mac256(body)
		for _, g := range given {
			if hmac.Equal(g, sum) {
				return nil
			}
		}
	}
	return ErrNoMatch
}

func checkTimestamp(timestamp string, now time.Time, tolerance time.Duration) error {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || seconds < 0 {
		return ErrBadTimestamp
	}
	// Compared in seconds, because time arithmetic overflows where a hostile
	// timestamp does not.
	limit := int64(tolerance / time.Second)
	switch {
	case seconds < now.Unix()-limit:
		return ErrTooOld
	case seconds > now.Unix()+limit:
		return ErrTooNew
	}
	return nil
}

// decodeSignatures returns the v1 signatures of a header; entries of other
// versions and malformed ones are skipped, as the specification asks.
func decodeSignatures(header string) [][]byte {
	var out [][]byte
	for entry := range strings.SplitSeq(header, " ") {
		version, encoded, ok := strings.Cut(entry, ",")
		if !ok || version != signatureVersion {
			continue
		}
		if sum, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(sum) == sha256.Size {
			out = append(out, sum)
		}
		if len(out) == maxSignatures {
			break
		}
	}
	return out
}
