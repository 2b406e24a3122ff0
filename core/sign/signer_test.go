package sign_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sealpost/sealpost/core/sign"
)

// The vector of the Standard Webhooks reference libraries.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTimestamp = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func mustKey(t testing.TB, secret string) []byte {
	t.Helper()
	key, err := sign.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAppendSignatureOfficialVector(t *testing.T) {
	t.Parallel()
	s := sign.NewSigner(mustKey(t, vectorSecret))
	for range 2 { // the second time with a state that was used before
		got := s.AppendSignature([]byte("webhook-signature: "), vectorID, vectorTimestamp, []byte(vectorBody))
		if want := "webhook-signature: " + vectorSignature; string(got) != want {
			t.Errorf("AppendSignature = %s, want %s", got, want)
		}
	}
}

func TestSignerDoesNotKeepTheCallersKey(t *testing.T) {
	t.Parallel()
	key := mustKey(t, vectorSecret)
	s := sign.NewSigner(key)
	clear(key)
	if got := s.AppendSignature(nil, vectorID, vectorTimestamp, []byte(vectorBody)); string(got) != vectorSignature {
		t.Errorf("AppendSignature = %s, want %s", got, vectorSignature)
	}
}

// TestReferenceLibraryAgrees signs on both sides and verifies crosswise.
func TestReferenceLibraryAgrees(t *testing.T) {
	t.Parallel()
	k := mustKeyring(t, masterKey("k1", 5))
	bodies := [][]byte{nil, []byte("{}"), []byte(`{"type":"call.qualified","data":"é \u0000"}`), bytes.Repeat([]byte("x"), 300_000)}
	for i, body := range bodies {
		t.Run(fmt.Sprint(len(body), " bytes"), func(t *testing.T) {
			t.Parallel()
			secret, _ := k.NewSecret(ref(), uint32(i+1), now)
			theirs, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			at := time.Now()
			signature := sign.NewSigner(mustKey(t, secret)).AppendSignature(nil, "evt_1", at.Unix(), body)
			want, err := theirs.Sign("evt_1", at, body)
			if err != nil {
				t.Fatal(err)
			}
			if string(signature) != want {
				t.Errorf("signature %s, reference library %s", signature, want)
			}
			h := headers("evt_1", strconv.FormatInt(at.Unix(), 10), string(signature))
			if err := theirs.Verify(body, h); err != nil {
				t.Errorf("reference library refuses ours: %v", err)
			}
			if err := sign.Verify([][]byte{mustKey(t, secret)}, h.Get, body, at, sign.DefaultTolerance); err != nil {
				t.Errorf("we refuse the reference library's: %v", err)
			}
		})
	}
}

func headers(id, timestamp, signature string) http.Header {
	h := http.Header{}
	h.Set(sign.HeaderID, id)
	h.Set(sign.HeaderTimestamp, timestamp)
	h.Set(sign.HeaderSignature, signature)
	return h
}

func TestSignerIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	s := sign.NewSigner(mustKey(t, vectorSecret))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got := s.AppendSignature(nil, vectorID, vectorTimestamp, []byte(vectorBody)); string(got) != vectorSignature {
					t.Errorf("AppendSignature = %s", got)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestAppendSignatureAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items under the race detector")
	}
	s := sign.NewSigner(mustKey(t, vectorSecret))
	dst := make([]byte, 0, 128)
	body := bytes.Repeat([]byte("x"), 1024)
	if n := testing.AllocsPerRun(200, func() { dst = s.AppendSignature(dst[:0], vectorID, vectorTimestamp, body) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkAppendSignature(b *testing.B) {
	s := sign.NewSigner(mustKey(b, vectorSecret))
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			body := bytes.Repeat([]byte("x"), size)
			dst := make([]byte, 0, 128)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				dst = s.AppendSignature(dst[:0], vectorID, vectorTimestamp, body)
			}
		})
	}
}
