package gateway

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
)

const (
	// keyLifetime is how long what Redis said about a key is believed, counted
	// from the start of the read. It bounds how long a revoked key works.
	keyLifetime = time.Second

	// maxCachedKeys bounds each of the cache's generations. Beyond it keys are
	// looked up but not kept.
	maxCachedKeys = 10_000
)

var errKeyBudget = errors.New("the store did not answer about an API key in time")

// authenticate finds the request's API key. Whatever is wrong with a key, the
// answer is the same.
func (s *Server) authenticate(x *exchange) error {
	token, ok := bearer(x.ctx.Request.Header.Peek("Authorization"))
	if !ok {
		x.ctx.Response.Header.Set("WWW-Authenticate", `Bearer realm="sealpost"`)
		return &core.Error{Code: core.CodeUnauthorized, Detail: "an API key is required: Authorization: Bearer sp_…"}
	}
	hash, ok := core.HashAPIKey(token)
	if ok {
		key, wait, err := s.keys.find(hash)
		x.keyWait = wait
		s.metrics.keys.count(wait)
		if err != nil {
			return err
		}
		if key != nil && !key.Expired(x.start) {
			x.key = key
			return nil
		}
	}
	x.ctx.Response.Header.Set("WWW-Authenticate", `Bearer realm="sealpost", error="invalid_token"`)
	return &core.Error{Code: core.CodeUnauthorized, Detail: "the API key is not valid"}
}

// bearer returns the token of an Authorization header.
func bearer(header []byte) (token string, ok bool) {
	const scheme = "bearer "
	if len(header) < len(scheme) || !bytes.EqualFold(header[:len(scheme)], []byte(scheme)) {
		return "", false
	}
	t := bytes.TrimLeft(header[len(scheme):], " ")
	return string(t), len(t) > 0
}

// keyCache remembers for keyLifetime what the store said about keys, also that
// there is none. Keys that exist and keys that do not are kept apart, so that a
// flood of made-up ones cannot push the real ones out. Requests that miss the
// same key together ask once.
type keyCache struct {
	store KeyStore
	now   func() time.Time

	mu      sync.Mutex
	known   generations
	unknown generations
	asking  map[[32]byte]*keyAnswer // bounded by the connections
}

// keyAnswer is what the store said; done is closed when it is there.
type keyAnswer struct {
	key  *core.APIKey // nil: there is none
	err  error
	at   time.Time // when the read began
	done chan struct{}
}

func newKeyCache(store KeyStore, now func() time.Time) *keyCache {
	return &keyCache{store: store, now: now, asking: make(map[[32]byte]*keyAnswer)}
}

// find returns the key with this hash, or nil if there is none, and how long the
// caller waited for the store.
func (c *keyCache) find(hash [32]byte) (key *core.APIKey, wait time.Duration, err error) {
	now := c.now()
	c.mu.Lock()
	a := c.known.get(hash, now)
	if a == nil {
		a = c.unknown.get(hash, now)
	}
	if a != nil {
		c.mu.Unlock()
		return a.key, 0, nil
	}
	a, ok := c.asking[hash]
	if !ok {
		a = &keyAnswer{at: now, done: make(chan struct{})}
		c.asking[hash] = a
	}
	c.mu.Unlock()
	if ok {
		<-a.done // bounded by the asker's budget
	} else {
		c.ask(hash, a)
	}
	return a.key, c.now().Sub(now), a.err
}

// ask fills in a and keeps it, unless the store failed.
func (c *keyCache) ask(hash [32]byte, a *keyAnswer) {
	a.err = errors.New("looking up an API key panicked") // unless it is overwritten
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.asking, hash)
		switch {
		case a.err != nil:
		case a.key != nil:
			c.known.put(hash, a)
		default:
			c.unknown.put(hash, a)
		}
		close(a.done)
	}()
	ctx, cancel := context.WithTimeoutCause(context.Background(), keyBudget, errKeyBudget)
	defer cancel()
	key, err := c.store.APIKey(ctx, hash)
	if core.CodeOf(err) == core.CodeNotFound {
		key, err = nil, nil
	}
	a.key, a.err = key, err
}

// generations is a map that forgets: entries live in the current generation and
// the one before, and a generation lasts keyLifetime. Forgetting is thus free,
// and the size bounded by 2·maxCachedKeys.
type generations struct {
	current, previous map[[32]byte]*keyAnswer
	began             time.Time
}

func (g *generations) get(hash [32]byte, now time.Time) *keyAnswer {
	if age := now.Sub(g.began); age >= keyLifetime || age < 0 {
		g.current, g.previous, g.began = make(map[[32]byte]*keyAnswer), g.current, now
	}
	a := g.current[hash]
	if a == nil {
		a = g.previous[hash]
	}
	if a == nil || now.Sub(a.at) >= keyLifetime || now.Before(a.at) {
		return nil
	}
	return a
}

func (g *generations) put(hash [32]byte, a *keyAnswer) {
	if g.current != nil && len(g.current) < maxCachedKeys {
		g.current[hash] = a
	}
}
