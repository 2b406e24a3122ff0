package sender

import (
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/sign"
)

// maxSigners bounds the derived signing keys kept in memory.
const maxSigners = 16384

// signingKey is one secret of an endpoint, ready to sign, or the reason why it
// is not.
type signingKey struct {
	kid       string
	expiresAt time.Time // zero: the current secret
	signer    *sign.Signer
	err       error // wraps sign.ErrKeyMismatch
}

// validAt reports whether the key signs at now.
func (k *signingKey) validAt(now time.Time) bool {
	return k.expiresAt.IsZero() || now.Before(k.expiresAt)
}

// signerID names a derived secret. The hash stands for the secret itself, so a
// record that was tampered with or restored finds no signer of another secret.
type signerID struct {
	ref     core.EndpointRef
	version uint32
	hash    string // of the secret's bytes
}

// signers derives signing keys and remembers them. Secrets live in this
// process's memory only.
type signers struct {
	keyring *sign.Keyring

	mu    sync.Mutex
	known *cache[signerID, *sign.Signer]
}

func newSigners(keyring *sign.Keyring) *signers {
	return &signers{keyring: keyring, known: newCache[signerID, *sign.Signer](maxSigners)}
}

// keys returns a key for every secret of e that signs at now, newest first. A
// mismatch is not remembered, so the operator's repair is seen at the next read.
func (s *signers) keys(e *core.Endpoint, now time.Time) []signingKey {
	secrets := e.ValidSecrets(now)
	keys := make([]signingKey, len(secrets))
	for i := range secrets {
		secret := &secrets[i]
		keys[i] = signingKey{kid: secret.KID, expiresAt: secret.ExpiresAt}
		keys[i].signer, keys[i].err = s.signer(e.Ref(), secret)
	}
	return keys
}

func (s *signers) signer(ref core.EndpointRef, secret *core.Secret) (*sign.Signer, error) {
	id := signerID{ref: ref, version: secret.Version, hash: string(secret.Hash)}
	s.mu.Lock()
	signer, ok := s.known.get(id)
	s.mu.Unlock()
	if ok {
		return signer, nil
	}
	signer, err := s.keyring.Derive(ref, secret)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.known.put(id, signer)
	s.mu.Unlock()
	return signer, nil
}

const (
	// remindEvery is how often the same complaint is logged again.
	remindEvery = time.Minute

	// maxReminders bounds the endpoints whose complaints are told apart.
	maxReminders = 1024
)

// reminder keeps a complaint that concerns every delivery of an endpoint from
// filling the log.
type reminder struct {
	mu   sync.Mutex
	last *cache[string, time.Time] // by endpoint id
}

func newReminder() *reminder {
	return &reminder{last: newCache[string, time.Time](maxReminders)}
}

// allow reports whether the complaint about the endpoint is to be logged now.
func (r *reminder) allow(endpoint string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last.get(endpoint); ok && now.Sub(last) < remindEvery {
		return false
	}
	r.last.put(endpoint, now)
	return true
}
