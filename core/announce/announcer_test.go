package announce

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// memory is a store and a queue that remember what they were given.
type memory struct {
	endpoints               []core.Endpoint
	findErr, parkErr        error
	enqueueErrs             []error
	frozen                  bool // nothing answers
	queued                  []core.Delivery
	parked                  []core.Parking
	enqueueCalls, parkCalls int
}

func (m *memory) Endpoints(ctx context.Context, organization string) ([]core.Endpoint, string, error) {
	if m.frozen {
		<-ctx.Done()
		return nil, "", context.Cause(ctx)
	}
	if organization != "acme" {
		return nil, "", errors.New("another organization was asked for")
	}
	return m.endpoints, "v", m.findErr
}

func (m *memory) Park(_ context.Context, ps []core.Parking) ([]core.Parked, error) {
	m.parkCalls++
	m.parked = append(m.parked, ps...)
	return make([]core.Parked, len(ps)), m.parkErr
}

func (m *memory) Enqueue(_ context.Context, ds []core.Delivery) []error {
	m.enqueueCalls++
	m.queued = append(m.queued, ds...)
	return m.enqueueErrs
}

var at = time.Date(2026, 4, 27, 19, 42, 17, 859_999_999, time.FixedZone("", 2*3600))

func fixed() time.Time { return at }

// listener is an enabled endpoint that wants to know everything.
func listener(id string, change func(*core.Endpoint)) core.Endpoint {
	e := core.Endpoint{ID: id, Organization: "acme", Enabled: true, EventTypes: core.SystemEventTypes()}
	if change != nil {
		change(&e)
	}
	return e
}

func TestBodies(t *testing.T) {
	t.Parallel()
	about := &core.Endpoint{ID: "a", Organization: "acme", URL: "https://a.example.com/x&y?token=secret"}
	failed := *about
	failed.Failing.Since = at.Add(-time.Hour)
	tests := []struct {
		name     string
		announce func(context.Context, *Announcer) error
		want     string
	}{
		{"disabled by request", func(ctx context.Context, a *Announcer) error { return a.Disabled(ctx, about, "") },
			`{"type":"sealpost.endpoint.disabled","timestamp":"2026-04-27T17:42:17.859Z","data":{"endpoint_id":"a","url":"https://a.example.com/x&y","reason":"requested"}}`},
		{"disabled", func(ctx context.Context, a *Announcer) error { return a.Disabled(ctx, &failed, core.ReasonFailing) },
			`{"type":"sealpost.endpoint.disabled","timestamp":"2026-04-27T17:42:17.859Z","data":{"endpoint_id":"a","url":"https://a.example.com/x&y","reason":"failing","failing_since":"2026-04-27T16:42:17.859Z"}}`},
		{"enabled", func(ctx context.Context, a *Announcer) error { return a.Enabled(ctx, about) },
			`{"type":"sealpost.endpoint.enabled","timestamp":"2026-04-27T17:42:17.859Z","data":{"endpoint_id":"a","url":"https://a.example.com/x&y","reason":"requested"}}`},
		{"failing", func(ctx context.Context, a *Announcer) error {
			return a.Failing(ctx, about, at.Add(-time.Hour), at.Add(time.Hour), 50)
		}, `{"type":"sealpost.endpoint.failing","timestamp":"2026-04-27T17:42:17.859Z","data":{"endpoint_id":"a","url":"https://a.example.com/x&y","failing_since":"2026-04-27T16:42:17.859Z","disable_at":"2026-04-27T18:42:17.859Z","warning_percent":50}}`},
	}
	for _, tt := range tests {
		m := &memory{endpoints: []core.Endpoint{listener("b", nil)}}
		if err := tt.announce(t.Context(), New(m, m, fixed)); err != nil || len(m.queued) != 1 {
			t.Errorf("%s: %v, %d deliveries", tt.name, err, len(m.queued))
			continue
		}
		if diff := cmp.Diff(tt.want, string(m.queued[0].Event.Body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		e := m.queued[0].Event
		if !core.ValidEventID(e.ID) || !core.SystemEventType(e.Type) || !e.AcceptedAt.Equal(at.Truncate(time.Millisecond)) {
			t.Errorf("%s: event %+v", tt.name, e)
		}
	}
}

// Who hears of it, and on which way.
func TestReceivers(t *testing.T) {
	t.Parallel()
	m := &memory{endpoints: []core.Endpoint{
		listener("itself", nil),
		listener("ordinary", nil),
		listener("others", func(e *core.Endpoint) { e.EventTypes = []string{"lead.created", core.EventEndpointEnabled} }),
		listener("fifo", func(e *core.Endpoint) { e.FIFO = true }),
		listener("holds", func(e *core.Endpoint) { e.Enabled = false }),
		listener("drops", func(e *core.Endpoint) { e.Enabled, e.Drop = false, true }),
		listener("second", nil),
	}}
	a := New(m, m, fixed)
	if err := a.Disabled(t.Context(), &m.endpoints[0], ""); err != nil {
		t.Fatal(err)
	}
	var queued, parked []string
	ids := make(map[string]bool)
	for _, d := range m.queued {
		queued = append(queued, d.Organization+" "+d.Endpoint)
		ids[d.ID] = true
	}
	for _, p := range m.parked {
		parked = append(parked, p.Endpoint.ID)
		var due time.Time // at once
		if p.Endpoint.ID == "holds" {
			due = at.Add(core.HeldLook)
		}
		if !p.Due.Equal(due) {
			t.Errorf("%s is looked at %v, want %v", p.Endpoint.ID, p.Due, due)
		}
		for _, d := range p.Deliveries {
			ids[d.ID] = true
		}
	}
	if diff := cmp.Diff([]string{"acme ordinary", "acme second"}, queued); diff != "" {
		t.Errorf("queued (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"fifo", "holds"}, parked); diff != "" || len(ids) != 4 {
		t.Errorf("%d deliveries, parked (-want +got):\n%s", len(ids), diff)
	}
	if m.enqueueCalls != 1 || m.parkCalls != 1 {
		t.Errorf("%d Enqueues and %d Parks, want one of each", m.enqueueCalls, m.parkCalls)
	}
}

// Where nobody listens, nothing is stored.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	m := &memory{endpoints: []core.Endpoint{listener("itself", nil)}}
	if err := New(m, m, nil).Enabled(t.Context(), &m.endpoints[0]); err != nil || m.enqueueCalls+m.parkCalls != 0 {
		t.Errorf("%v after %d calls", err, m.enqueueCalls+m.parkCalls)
	}
}

// A failure of one half does not keep the other from being stored.
func TestFailures(t *testing.T) {
	t.Parallel()
	gone := errors.New("redis is gone")
	about := &core.Endpoint{ID: "a", Organization: "acme"}
	both := []core.Endpoint{listener("b", nil), listener("c", func(e *core.Endpoint) { e.MaxInFlight = 1 })}
	for name, m := range map[string]*memory{
		"find":    {findErr: gone},
		"enqueue": {endpoints: both, enqueueErrs: []error{gone}},
		"park":    {endpoints: both, parkErr: gone},
	} {
		if err := New(m, m, nil).Enabled(t.Context(), about); !errors.Is(err, gone) {
			t.Errorf("%s: %v", name, err)
		}
		if name != "find" && (m.enqueueCalls != 1 || m.parkCalls != 1) {
			t.Errorf("%s: %d Enqueues and %d Parks, want one of each", name, m.enqueueCalls, m.parkCalls)
		}
	}
}

// An announcement has a patience of its own, and keeps to its caller's.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		about := &core.Endpoint{ID: "a", Organization: "acme"}
		m := &memory{frozen: true}
		began := time.Now()
		if err := New(m, m, nil).Enabled(t.Context(), about); !errors.Is(err, errPatience) || time.Since(began) != patience {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if err := New(m, m, nil).Enabled(ctx, about); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
