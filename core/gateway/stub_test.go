package gateway

import (
	"cmp"
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/leaktest"
	"github.com/sealpost/sealpost/core/publish"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// stubStore keeps endpoints, attempts and API keys in memory. err, when set, is
// what every method but APIKey answers. Tests of dead letters use a real Redis.
type stubStore struct {
	LetterStore
	mu         sync.Mutex
	err        error
	lastErr    error         // what LastAttempts answers
	updateWait time.Duration // of UpdateEndpoint
	keyErr     error
	keyReads   int
	keys       map[[32]byte]*core.APIKey
	endpoints  map[core.EndpointRef]core.Endpoint
	attempts   map[string][]core.Attempt
	failures   map[string][]core.Attempt
	forgotten  []string
	standings  map[string]core.Standing
	standErr   error // what Standings answers
	lookErr    error // what LookAt answers
	testWait   time.Duration
	trailWait  time.Duration
	trailFunc  func() // called by EventTrails
	looks      []look
}

// look is a call of LookAt.
type look struct {
	endpoint string
	forget   bool
}

func newStubStore() *stubStore {
	return &stubStore{
		keys: make(map[[32]byte]*core.APIKey), endpoints: make(map[core.EndpointRef]core.Endpoint),
		attempts: make(map[string][]core.Attempt), failures: make(map[string][]core.Attempt), standings: make(map[string]core.Standing),
	}
}

// addKey returns a new API key.
func (s *stubStore) addKey(organization string, scopes ...core.Scope) string {
	key := core.NewAPIKey()
	hash, _ := core.HashAPIKey(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[hash] = &core.APIKey{ID: "key_1", Organization: organization, Scopes: scopes}
	return key
}

func (s *stubStore) APIKey(_ context.Context, hash [32]byte) (*core.APIKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keyReads++
	if s.keyErr != nil {
		return nil, s.keyErr
	}
	if k := s.keys[hash]; k != nil {
		return k, nil
	}
	return nil, core.NotFound("API key")
}

func (s *stubStore) CreateEndpoint(_ context.Context, e *core.Endpoint, limit int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	n := 0
	for ref := range s.endpoints {
		if ref.Organization == e.Organization {
			n++
		}
	}
	if n >= limit {
		return &core.Error{Code: core.CodeConflict, Detail: "too many endpoints"}
	}
	s.endpoints[e.Ref()] = *e
	return nil
}

func (s *stubStore) Endpoint(_ context.Context, ref core.EndpointRef) (*core.Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	e, ok := s.endpoints[ref]
	if !ok {
		return nil, core.NotFound("webhook")
	}
	return &e, nil
}

func (s *stubStore) Endpoints(_ context.Context, organization string) ([]core.Endpoint, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []core.Endpoint
	for _, e := range s.endpoints {
		if e.Organization == organization {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b core.Endpoint) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return all, "v", s.err
}

func (s *stubStore) UpdateEndpoint(_ context.Context, ref core.EndpointRef, change func(*core.Endpoint) error) (*core.Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	time.Sleep(s.updateWait)
	e, ok := s.endpoints[ref]
	if !ok {
		return nil, core.NotFound("webhook")
	}
	if err := change(&e); err != nil {
		return nil, err
	}
	s.endpoints[ref] = e
	return &e, s.err
}

func (s *stubStore) DeleteEndpoint(_ context.Context, ref core.EndpointRef) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.endpoints[ref]; !ok {
		return core.NotFound("webhook")
	}
	delete(s.endpoints, ref)
	return s.err
}

func (s *stubStore) ForgetEndpoint(_ context.Context, ref core.EndpointRef) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgotten = append(s.forgotten, ref.ID)
	return nil
}

func (s *stubStore) Attempts(_ context.Context, endpoint string, failures bool) ([]core.Attempt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if failures {
		return s.failures[endpoint], s.err
	}
	return s.attempts[endpoint], s.err
}

func (s *stubStore) LastAttempts(ctx context.Context, endpoints []string) ([]*core.Attempt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := make([]*core.Attempt, len(endpoints))
	for i, id := range endpoints {
		if rows := s.attempts[id]; len(rows) > 0 {
			last[i] = &rows[0]
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return last, cmp.Or(s.err, s.lastErr)
}

func (s *stubStore) AllowTrail(context.Context, string, int) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trailWait, s.err
}

func (s *stubStore) EventTrails(context.Context, []string, string) ([]core.EventTrail, error) {
	if s.trailFunc != nil {
		s.trailFunc()
	}
	return nil, s.err
}

func (s *stubStore) Standings(_ context.Context, refs []core.EndpointRef) ([]core.Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]core.Standing, len(refs))
	for i, ref := range refs {
		out[i] = s.standings[ref.ID]
	}
	return out, cmp.Or(s.err, s.standErr)
}

func (s *stubStore) LookAt(_ context.Context, ref core.EndpointRef, forget bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = append(s.looks, look{ref.ID, forget})
	return s.lookErr
}

func (s *stubStore) AllowTest(context.Context, string) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.testWait, s.err
}

// add stores an endpoint of organization acme as it is.
func (s *stubStore) add(e core.Endpoint) core.Endpoint {
	if e.ID == "" {
		e.ID = core.NewEndpointID()
	}
	if e.Organization == "" {
		e.Organization = "acme"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints[e.Ref()] = e
	return e
}

// stubPublisher remembers requests and answers with a fixed body.
type stubPublisher struct {
	publishFunc func(r *publish.Request) ([]byte, error)

	mu       sync.Mutex
	requests []*publish.Request
	rejected map[core.Code]int
}

func (p *stubPublisher) Publish(r *publish.Request) ([]byte, error) {
	p.mu.Lock()
	p.requests = append(p.requests, r)
	p.mu.Unlock()
	if p.publishFunc != nil {
		return p.publishFunc(r)
	}
	if !r.Batch && r.Items[0].Err != nil {
		return nil, r.Items[0].Err
	}
	return []byte(`{"id":"evt_1","deliveries":1}`), nil
}

func (p *stubPublisher) Reject(code core.Code, events int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rejected == nil {
		p.rejected = make(map[core.Code]int)
	}
	p.rejected[code] += events
}

// last returns the request that came last.
func (p *stubPublisher) last(t *testing.T) *publish.Request {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.requests) == 0 {
		t.Fatal("nothing was published")
	}
	return p.requests[len(p.requests)-1]
}
