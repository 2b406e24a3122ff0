package gateway

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
)

func TestAuthentication(t *testing.T) {
	t.Parallel()
	f := setup(t)
	unknown := core.NewAPIKey()
	expired := core.NewAPIKey()
	hash, _ := core.HashAPIKey(expired)
	f.store.keys[hash] = &core.APIKey{Organization: "acme", Scopes: []core.Scope{core.ScopeRead}, ExpiresAt: time.Now().Add(-time.Second)}
	last := f.key[len(f.key)-1]
	wrongSum := f.key[:len(f.key)-1] + string(rune('0'+(last-'0'+1)%10))

	for name, tt := range map[string]struct{ header, challenge string }{
		"none":            {"", `Bearer realm="sealpost"`},
		"other scheme":    {"Basic dTpw", `Bearer realm="sealpost"`},
		"no token":        {"Bearer", `Bearer realm="sealpost"`},
		"bare key":        {f.key, `Bearer realm="sealpost"`},
		"junk":            {"Bearer junk", `Bearer realm="sealpost", error="invalid_token"`},
		"wrong checksum":  {"Bearer " + wrongSum, `Bearer realm="sealpost", error="invalid_token"`},
		"another case":    {"Bearer " + strings.ToUpper(f.key), `Bearer realm="sealpost", error="invalid_token"`},
		"trailing":        {"Bearer " + f.key + " x", `Bearer realm="sealpost", error="invalid_token"`},
		"unknown":         {"Bearer " + unknown, `Bearer realm="sealpost", error="invalid_token"`},
		"expired":         {"Bearer " + expired, `Bearer realm="sealpost", error="invalid_token"`},
		"far too long":    {"Bearer sp_" + strings.Repeat("a", 4000), `Bearer realm="sealpost", error="invalid_token"`},
		"second spelling": {"bearer\t" + f.key, `Bearer realm="sealpost"`},
	} {
		a := f.call("GET", "/api/v1/webhooks", "", "Authorization", tt.header).want(401, core.CodeUnauthorized)
		if got := a.Header.Get("WWW-Authenticate"); got != tt.challenge {
			t.Errorf("%s: WWW-Authenticate %q, want %q", name, got, tt.challenge)
		}
	}
	f.call("GET", "/api/v1/webhooks", "", "Authorization", "bearer  "+f.key).want(200, "")
	f.call("GET", "/api/v1/webhooks", "").want(200, "")
}

// What cannot be a key is refused without asking Redis.
func TestJunkKeysDoNotReachTheStore(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, key := range []string{"", "sp_", "sp_" + strings.Repeat("0", 36), f.key + "0", f.key[:38]} {
		f.call("GET", "/api/v1/webhooks", "", "Authorization", "Bearer "+key)
	}
	if f.store.keyReads != 0 {
		t.Errorf("%d reads", f.store.keyReads)
	}
}

func TestKeyStoreFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.store.keyErr = core.Unavailable("storage did not confirm the operation", errors.New("dial tcp 10.1.2.3:6379"))
	a := f.call("GET", "/api/v1/webhooks", "").want(503, core.CodeUnavailable)
	if a.Header.Get("Retry-After") != "1" || strings.Contains(a.body, "10.1.2.3") {
		t.Errorf("Retry-After %q, body %s", a.Header.Get("Retry-After"), a.body)
	}
	f.store.mu.Lock()
	f.store.keyErr = nil // a failure is not remembered
	f.store.mu.Unlock()
	f.call("GET", "/api/v1/webhooks", "").want(200, "")
	f.store.mu.Lock()
	f.store.keyErr = context.DeadlineExceeded // what a key store may return, too
	f.store.mu.Unlock()
	f.call("GET", "/api/v1/webhooks", "", "Authorization", "Bearer "+core.NewAPIKey()).want(503, core.CodeUnavailable)
}

// TestKeyLookupsAreCounted: junk asks nobody and is not counted.
func TestKeyLookupsAreCounted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, key := range []string{f.key, f.key, "sp_junk", core.NewAPIKey()} {
		f.call("GET", "/api/v1/event-types", "", "Authorization", "Bearer "+key)
	}
	keys := &f.server.metrics.keys
	if hits, misses := testutil.ToFloat64(keys.hits), testutil.ToFloat64(keys.misses); hits != 1 || misses != 2 {
		t.Errorf("%v hits and %v misses; want 1 and 2", hits, misses)
	}
}

// stubKeys answers from a function.
type stubKeys func(ctx context.Context, hash [32]byte) (*core.APIKey, error)

func (s stubKeys) APIKey(ctx context.Context, hash [32]byte) (*core.APIKey, error) {
	return s(ctx, hash)
}

func TestKeyCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		stored := map[[32]byte]*core.APIKey{{1}: {ID: "one"}}
		c := newKeyCache(stubKeys(func(_ context.Context, hash [32]byte) (*core.APIKey, error) {
			reads++
			time.Sleep(100 * time.Millisecond)
			if k := stored[hash]; k != nil {
				return k, nil
			}
			return nil, core.NotFound("API key")
		}), time.Now)
		find := func(n byte, want bool, wantReads int, wantWait time.Duration) {
			t.Helper()
			key, wait, err := c.find([32]byte{n})
			if err != nil || (key != nil) != want || reads != wantReads || wait != wantWait {
				t.Fatalf("key %v, %v after %d reads and %v; want found %t after %d and %v", key, err, reads, wait, want, wantReads, wantWait)
			}
		}
		const wait = 100 * time.Millisecond
		find(1, true, 1, wait)
		find(2, false, 2, wait)
		find(1, true, 2, 0)
		find(2, false, 2, 0)
		delete(stored, [32]byte{1}) // revoked
		stored[[32]byte{2}] = &core.APIKey{ID: "two"}
		time.Sleep(keyLifetime - 3*wait)
		find(1, true, 2, 0) // read 0.9 s ago
		time.Sleep(wait)
		find(1, false, 3, wait) // its second is over
		find(2, true, 4, wait)
	})
}

// Requests that miss the same key together ask once, and all learn of a
// failure.
func TestKeyCacheAsksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		c := newKeyCache(stubKeys(func(ctx context.Context, _ [32]byte) (*core.APIKey, error) {
			reads++
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}), time.Now)
		began := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, _, err := c.find([32]byte{1}); !errors.Is(err, errKeyBudget) {
					t.Errorf("error %v", err)
				}
			})
		}
		wg.Wait()
		if reads != 1 || time.Since(began) != keyBudget {
			t.Errorf("%d reads, %v", reads, time.Since(began))
		}
		if len(c.asking) != 0 {
			t.Error("the question is still open")
		}
	})
}

func TestKeyCacheSurvivesAPanic(t *testing.T) {
	t.Parallel()
	c := newKeyCache(stubKeys(func(context.Context, [32]byte) (*core.APIKey, error) { panic("broken") }), time.Now)
	func() {
		defer func() { _ = recover() }()
		_, _, _ = c.find([32]byte{1})
	}()
	if len(c.asking) != 0 {
		t.Error("others would wait for ever")
	}
}

func TestKeyCacheIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := newKeyCache(stubKeys(func(_ context.Context, hash [32]byte) (*core.APIKey, error) {
		if hash[31] == 1 {
			return &core.APIKey{}, nil
		}
		return nil, core.NotFound("API key")
	}), func() time.Time { return now })
	for i := range maxCachedKeys + 1000 {
		if _, _, err := c.find([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.unknown.current) != maxCachedKeys {
		t.Errorf("%d unknown keys are kept, want %d", len(c.unknown.current), maxCachedKeys)
	}
	if _, _, err := c.find([32]byte{31: 1}); err != nil || len(c.known.current) != 1 {
		t.Error("made-up keys push out real ones")
	}
}
