package sign_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/sign"
)

func ref() core.EndpointRef {
	return core.EndpointRef{Organization: "acme", ID: core.NewEndpointID()}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	key := mustKey(t, vectorSecret)
	other := mustKey(t, "whsec_"+strings.Repeat("A", 32))
	at := time.Unix(vectorTimestamp, 0)
	stamp := strconv.Itoa(vectorTimestamp)
	foreign := string(sign.NewSigner(other).AppendSignature(nil, vectorID, vectorTimestamp, []byte(vectorBody)))

	tests := []struct {
		name           string
		keys           [][]byte
		id, stamp, sig string
		body           string
		now            time.Time
		want           error
	}{
		{name: "official vector", want: nil},
		{name: "at the old end of the tolerance", now: at.Add(5 * time.Minute), want: nil},
		{name: "at the new end of the tolerance", now: at.Add(-5 * time.Minute), want: nil},
		{name: "too old", now: at.Add(5*time.Minute + time.Second), want: sign.ErrTooOld},
		{name: "too new", now: at.Add(-5*time.Minute - time.Second), want: sign.ErrTooNew},
		{name: "second of two keys", keys: [][]byte{other, key}, want: nil},
		{name: "second of two signatures", sig: foreign + " " + vectorSignature, want: nil},
		{name: "unknown versions are skipped", sig: "v1a,xyz v2," + vectorSignature[3:] + " " + vectorSignature, want: nil},
		{name: "known signature under another version", sig: "v2," + vectorSignature[3:], want: sign.ErrNoMatch},
		{name: "no version", sig: vectorSignature[3:], want: sign.ErrNoMatch},
		{name: "truncated signature", sig: vectorSignature[:20], want: sign.ErrNoMatch},
		{name: "empty signature", sig: "v1,", want: sign.ErrNoMatch},
		{name: "other key", keys: [][]byte{other}, want: sign.ErrNoMatch},
		{name: "no keys", keys: [][]byte{}, want: sign.ErrNoMatch},
		{name: "tampered body", body: vectorBody + " ", want: sign.ErrNoMatch},
		{name: "tampered id", id: vectorID + "x", want: sign.ErrNoMatch},
		{name: "tampered timestamp", stamp: strconv.Itoa(vectorTimestamp + 1), want: sign.ErrNoMatch},
		{name: "timestamp spelled otherwise", stamp: "+" + stamp, want: sign.ErrNoMatch},
		{name: "timestamp no number", stamp: "yesterday", want: sign.ErrBadTimestamp},
		{name: "timestamp negative", stamp: "-" + stamp, want: sign.ErrBadTimestamp},
		{name: "timestamp at the end of int64", stamp: "9223372036854775807", want: sign.ErrTooNew},
		{name: "timestamp beyond int64", stamp: "9223372036854775808", want: sign.ErrBadTimestamp},
		{name: "id missing", id: "-", want: sign.ErrMissingHeader},
		{name: "timestamp missing", stamp: "-", want: sign.ErrMissingHeader},
		{name: "signature missing", sig: "-", want: sign.ErrMissingHeader},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys, body, clock := tt.keys, tt.body, tt.now
			if keys == nil {
				keys = [][]byte{key}
			}
			if body == "" {
				body = vectorBody
			}
			if clock.IsZero() {
				clock = at
			}
			h := headers(given(tt.id, vectorID), given(tt.stamp, stamp), given(tt.sig, vectorSignature))
			if err := sign.Verify(keys, h.Get, []byte(body), clock, sign.DefaultTolerance); !errors.Is(err, tt.want) {
				t.Errorf("Verify = %v, want %v", err, tt.want)
			}
		})
	}
}

// given returns v, fallback for "", and "" for "-".
func given(v, fallback string) string {
	switch v {
	case "":
		return fallback
	case "-":
		return ""
	}
	return v
}

func FuzzVerify(f *testing.F) {
	f.Add(vectorID, strconv.Itoa(vectorTimestamp), vectorSignature)
	f.Add("", "-1", "v1, v1,AAAA v2,")
	key := mustKey(f, vectorSecret)
	f.Fuzz(func(t *testing.T, id, stamp, signature string) {
		h := map[string]string{sign.HeaderID: id, sign.HeaderTimestamp: stamp, sign.HeaderSignature: signature}
		err := sign.Verify([][]byte{key}, func(name string) string { return h[name] }, []byte(vectorBody), time.Unix(vectorTimestamp, 0), time.Minute)
		if err == nil && (id != vectorID || stamp != strconv.Itoa(vectorTimestamp)) {
			// id and timestamp are joined by full stops; an id that holds one is not ours to send.
			if id+"."+stamp != vectorID+"."+strconv.Itoa(vectorTimestamp) {
				t.Errorf("accepted id %q, timestamp %q, signature %q", id, stamp, signature)
			}
		}
	})
}
