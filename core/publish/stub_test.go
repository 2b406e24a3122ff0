package publish

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// stubStore keeps endpoints and reservations in memory. A xxxFunc replaces the
// method of its name, but finishFunc only says whether it fails.
type stubStore struct {
	beginFunc     func(ctx context.Context, organizations []string, rs []core.Reservation, draws core.Draws) ([]string, []core.ReservationState, error)
	endpointsFunc func(ctx context.Context, organization string) ([]core.Endpoint, string, error)
	releaseFunc   func(ctx context.Context) error
	finishFunc    func(ctx context.Context, rs []core.Reservation) error

	mu        sync.Mutex
	endpoints map[string][]core.Endpoint
	versions  map[string]string
	claims    map[string]*stubClaim
	begins    [][]string // the organizations of each Begin
	reads     int        // calls of Endpoints
	released  []string   // keys
	drawn     map[string]int
}

type stubClaim struct {
	core.Reservation
	until time.Time // end of the lease
	notes []string
	done  bool
}

func newStubStore() *stubStore {
	return &stubStore{
		endpoints: make(map[string][]core.Endpoint), versions: make(map[string]string), claims: make(map[string]*stubClaim),
		drawn: make(map[string]int),
	}
}

// subscribe adds an enabled endpoint, as a change of the organization would.
func (s *stubStore) subscribe(organization, id string, types ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints[organization] = append(s.endpoints[organization], core.Endpoint{
		ID: id, Organization: organization, EventTypes: types, Enabled: true,
	})
	s.versions[organization] = core.NewToken()
}

// disable changes the organization's endpoint i, which drops what comes then.
func (s *stubStore) disable(organization string, i int) {
	s.change(organization, i, func(e *core.Endpoint) { e.Enabled, e.Drop = false, true })
}

// change changes the organization's endpoint i.
func (s *stubStore) change(organization string, i int, change func(*core.Endpoint)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.endpoints[organization][i])
	s.versions[organization] = core.NewToken()
}

func (s *stubStore) Begin(ctx context.Context, organizations []string, rs []core.Reservation, draws core.Draws) ([]string, []core.ReservationState, error) {
	s.mu.Lock()
	s.begins = append(s.begins, append([]string(nil), organizations...))
	s.mu.Unlock()
	if s.beginFunc != nil {
		return s.beginFunc(ctx, organizations, rs, draws)
	}
	s.draw(draws)
	return s.begin(organizations, rs)
}

// draw takes from quotas that gain nothing. It takes every claim for new.
func (s *stubStore) draw(draws core.Draws) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range draws.Requests {
		d := &draws.Requests[i]
		used := s.drawn[d.Organization]
		d.Cost = d.Events + len(d.Claims)*d.PerClaim
		if d.Granted = used+d.Cost <= draws.Quota.Burst; d.Granted {
			s.drawn[d.Organization] += d.Cost
		}
	}
	for i := range draws.Requests {
		d := &draws.Requests[i]
		d.Left = float64(draws.Quota.Burst - s.drawn[d.Organization])
	}
}

func (s *stubStore) begin(organizations []string, rs []core.Reservation) ([]string, []core.ReservationState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := make([]string, len(organizations))
	for i, o := range organizations {
		versions[i] = s.versions[o]
	}
	states := make([]core.ReservationState, len(rs))
	for i, r := range rs {
		states[i] = s.reserveLocked(r)
	}
	return versions, states, nil
}

func (s *stubStore) reserveLocked(r core.Reservation) core.ReservationState {
	name, now := r.Organization+" "+r.Key, time.Now()
	held, ok := s.claims[name]
	switch {
	case !ok:
		s.claims[name] = &stubClaim{Reservation: r, until: now.Add(core.ReservationLease)}
		return core.ReservationState{Kind: core.ReservationGranted}
	case held.BodyHash != r.BodyHash:
		return core.ReservationState{Kind: core.ReservationMismatch}
	case held.done:
		return core.ReservationState{Kind: core.ReservationAnswered, Answer: held.Answer}
	case now.Before(held.until):
		return core.ReservationState{Kind: core.ReservationPending, RetryAfter: held.until.Sub(now)}
	default:
		held.Owner, held.until = r.Owner, now.Add(core.ReservationLease)
		return core.ReservationState{Kind: core.ReservationTakenOver, EventID: held.EventID, Stored: core.ReadNotes(held.notes)}
	}
}

func (s *stubStore) Endpoints(ctx context.Context, organization string) ([]core.Endpoint, string, error) {
	s.mu.Lock()
	s.reads++
	s.mu.Unlock()
	if s.endpointsFunc != nil {
		return s.endpointsFunc(ctx, organization)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]core.Endpoint(nil), s.endpoints[organization]...), s.versions[organization], nil
}

func (s *stubStore) Finish(ctx context.Context, rs []core.Reservation) error {
	if s.finishFunc != nil {
		if err := s.finishFunc(ctx, rs); err != nil {
			return err
		}
	}
	for i := range rs {
		s.finish(&rs[i])
	}
	return nil
}

// finish reports whether the claim is still its owner's.
func (s *stubStore) finish(r *core.Reservation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.claims[r.Organization+" "+r.Key]
	if held == nil || held.Owner != r.Owner {
		return false
	}
	held.done, held.Answer = true, r.Answer
	return true
}

func (s *stubStore) note(r *core.Reservation, note []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.claims[r.Organization+" "+r.Key]; held != nil && held.Owner == r.Owner {
		held.notes = append(held.notes, string(note))
	}
}

func (s *stubStore) Release(ctx context.Context, rs []core.Reservation) error {
	if s.releaseFunc != nil {
		if err := s.releaseFunc(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rs {
		name := r.Organization + " " + r.Key
		if held := s.claims[name]; held != nil && held.Owner == r.Owner {
			delete(s.claims, name)
			s.released = append(s.released, r.Key)
		}
	}
	return nil
}

// stubQueue remembers what it was given. enqueueFunc decides the answer.
type stubQueue struct {
	enqueueFunc func(ctx context.Context, ds []core.Delivery) []error
	answers     *stubStore // keeps answers with the deliveries; nil: none is kept

	mu    sync.Mutex
	calls [][]core.Delivery
	keyed []core.Keyed
}

func (q *stubQueue) EnqueueKeyed(ctx context.Context, ds []core.Delivery, keyed []core.Keyed) []error {
	q.mu.Lock()
	q.calls = append(q.calls, append([]core.Delivery(nil), ds...))
	q.keyed = append(q.keyed, keyed...)
	q.mu.Unlock()
	var errs []error
	if q.enqueueFunc != nil {
		errs = q.enqueueFunc(ctx, ds)
	}
	q.keep(ds, keyed, errs)
	return errs
}

// keep keeps the answers of what is stored, and notes of parts, if there is a store for
// them.
func (q *stubQueue) keep(ds []core.Delivery, keyed []core.Keyed, errs []error) {
	if q.answers == nil {
		return
	}
	for i := range keyed {
		k := &keyed[i]
		if k.Answer != nil && (errs == nil || !slices.ContainsFunc(errs[k.From:k.To], func(err error) bool { return err != nil })) {
			k.Noted = q.answers.finish(&k.Reservation)
			continue
		}
		for n := k.From; n < k.To; n++ {
			if errs == nil || errs[n] == nil {
				q.answers.note(&k.Reservation, k.Note(ds, n, n+1))
			}
		}
	}
}

// stored returns "event endpoint" of all deliveries in order.
func (q *stubQueue) stored() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []string
	for _, call := range q.calls {
		for _, d := range call {
			out = append(out, d.Event.ID+" "+d.Endpoint)
		}
	}
	return out
}

// stubBacklog remembers what was parked. parkFunc decides the answer.
type stubBacklog struct {
	parkFunc func(ctx context.Context, ps []core.Parking) error
	notes    *stubStore // keeps notes of what is parked; nil: none is kept

	mu    sync.Mutex
	calls [][]core.Parking
}

func (b *stubBacklog) Park(ctx context.Context, ps []core.Parking) ([]core.Parked, error) {
	kept := append([]core.Parking(nil), ps...)
	for i := range kept {
		kept[i].Deliveries = append([]core.Delivery(nil), ps[i].Deliveries...)
	}
	b.mu.Lock()
	b.calls = append(b.calls, kept)
	b.mu.Unlock()
	if b.parkFunc != nil {
		if err := b.parkFunc(ctx, ps); err != nil {
			return nil, err
		}
	}
	for i := range ps {
		for k := range ps[i].Keyed {
			if note := ps[i].Keyed[k].Note(ps[i].Deliveries, 0, len(ps[i].Deliveries)); b.notes != nil && note != nil {
				b.notes.note(&ps[i].Keyed[k].Reservation, note)
			}
		}
	}
	return make([]core.Parked, len(ps)), nil
}

// of returns the ids of the events in an endpoint's backlog, in order.
func (b *stubBacklog) of(endpoint string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, call := range b.calls {
		for _, p := range call {
			for _, d := range p.Deliveries {
				if p.Endpoint.ID == endpoint && d.Ref() == p.Endpoint {
					out = append(out, d.Event.ID)
				}
			}
		}
	}
	return out
}

// start runs a Publisher until the test ends.
func start(t *testing.T, o Options) *Publisher {
	t.Helper()
	if o.Backlog == nil {
		o.Backlog = &stubBacklog{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	p, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p
}

// single returns a request of organization acme for one event.
func single(id, data string) *Request {
	return request(Item{ID: id, Type: "call.qualified", Body: []byte(data), Hash: [32]byte{byte(len(data))}})
}

func request(items ...Item) *Request {
	return &Request{Organization: "acme", Items: items, Batch: len(items) != 1, Arrived: time.Now()}
}

func keyed(r *Request, key string, body byte) *Request {
	r.Key, r.BodyHash = key, [32]byte{body}
	return r
}

func mustPublish(t *testing.T, p *Publisher, r *Request) string {
	t.Helper()
	body, err := p.Publish(r)
	if err != nil {
		t.Fatalf("Publish: %v", err)
	}
	return string(body)
}

func wantCode(t *testing.T, err error, code core.Code) {
	t.Helper()
	if got := core.CodeOf(err); got != code {
		t.Fatalf("error %v has code %q, want %q", err, got, code)
	}
}

func item(i int) Item {
	return Item{Type: "call.qualified", Body: fmt.Appendf(nil, "%d", i)}
}
