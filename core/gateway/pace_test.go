package gateway

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
)

// The settings that say how deliveries travel are shown where they are set.
func TestPaceOfEndpoint(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const members = `"enabled":true,"rate_limit":0.5,"max_in_flight":1,"ordering":"fifo","on_disable":"drop","created_at"`
	a := f.call("POST", "/api/v1/webhooks",
		`{"url":"https://a.example.com/","events":["lead.created"],"ordering":"fifo","max_in_flight":1,"rate_limit":0.5,"on_disable":"drop"}`).want(201, "")
	var c createdJSON
	a.decode(&c)
	item := "/api/v1/webhooks/" + c.ID
	if got := f.call("GET", item, "").want(200, ""); !strings.Contains(a.body, members) || !strings.Contains(got.body, members) {
		t.Errorf("created %s\nread %s", a.body, got.body)
	}
	f.call("PATCH", item, `{"max_in_flight":2}`).want(422, core.CodeInvalid, "ordering")
	for _, tt := range []struct{ change, want string }{
		{`{}`, members},
		{`{"ordering":"none","max_in_flight":1e3}`, `"rate_limit":0.5,"max_in_flight":1000,"on_disable":"drop","created_at"`},
		{`{"rate_limit":null,"on_disable":"hold"}`, `"enabled":true,"max_in_flight":1000,"created_at"`},
		{`{"ordering":"fifo","max_in_flight":null,"on_disable":null}`, `"enabled":true,"ordering":"fifo","created_at"`},
		{`{"ordering":null,"rate_limit":10000}`, `"enabled":true,"rate_limit":10000,"created_at"`},
	} {
		if a := f.call("PATCH", item, tt.change).want(200, ""); !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: %s, want %s", tt.change, a.body, tt.want)
		}
	}
	f.call("PATCH", item, `{"max_in_flight":5}`).want(200, "")
	f.call("PATCH", item, `{"ordering":"fifo"}`).want(422, core.CodeInvalid, "ordering")
}

// How an endpoint stands, from its record and what is kept beside it.
func TestStanding(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 14, 9, 0, 0, 0, time.UTC)
	f := setup(t, func(o *Options) { o.Now = func() time.Time { return now } })
	const soon, later = `"2026-02-14T09:00:05.000Z"`, `"2026-02-14T08:00:00.000Z"`
	until, passed := now.Add(5*time.Second), now.Add(-time.Second)
	tests := []struct {
		name    string
		enabled bool
		s       core.Standing
		want    string
	}{
		{"nothing known", true, core.Standing{}, `"state":"active","paused_until":null,"failing_since":null,"backlog":0}`},
		{"in transit", true, core.Standing{Backlog: 2}, `"state":"active","paused_until":null,"failing_since":null,"backlog":2}`},
		{"slow", true, core.Standing{Condition: core.Condition{State: core.StateSlow, Until: until}}, `"state":"slow","paused_until":null,"failing_since":null,"backlog":0}`},
		{"throttled", true, core.Standing{Condition: core.Condition{State: core.StateThrottled, Until: until}}, `"state":"throttled","paused_until":null,"failing_since":null,"backlog":0}`},
		{"paused", true, core.Standing{Condition: core.Condition{State: core.StatePaused, Until: until}, Backlog: 1}, `"state":"paused","paused_until":` + soon + `,"failing_since":null,"backlog":1}`},
		{"failing", true, core.Standing{Condition: core.Condition{State: core.StateFailing, Until: until}, Failing: core.Failing{Since: now.Add(-time.Hour)}, Backlog: 70},
			`"state":"failing","paused_until":` + soon + `,"failing_since":` + later + `,"backlog":70}`},
		{"catching up", true, core.Standing{Condition: core.Condition{State: core.StateCatchingUp}, Backlog: 3}, `"state":"catching_up","paused_until":null,"failing_since":null,"backlog":3}`},
		{"pause over", true, core.Standing{Condition: core.Condition{State: core.StatePaused, Until: passed}, Backlog: 3}, `"state":"catching_up","paused_until":null,"failing_since":null,"backlog":3}`},
		{"pause over, nothing waits", true, core.Standing{Condition: core.Condition{State: core.StatePaused, Until: passed}}, `"state":"active","paused_until":null,"failing_since":null,"backlog":0}`},
		{"disabled", false, core.Standing{Condition: core.Condition{State: core.StateFailing, Until: until}, Backlog: 3}, `"state":"disabled","paused_until":null,"failing_since":null,"backlog":3}`},
	}
	for _, tt := range tests {
		e := f.store.add(core.Endpoint{URL: "https://a.example.com/", Enabled: tt.enabled})
		f.store.standings[e.ID] = tt.s
		if a := f.call("GET", "/api/v1/webhooks/"+e.ID, "").want(200, ""); !strings.HasSuffix(a.body, tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, a.body, tt.want)
		}
	}
	var list struct{ Data []struct{ State core.State } }
	f.call("GET", "/api/v1/webhooks", "").want(200, "").decode(&list)
	if len(list.Data) != len(tests) || list.Data[0].State == "" {
		t.Errorf("list %+v", list)
	}
}

// Which changes have the backlog looked at, and which make another endpoint of it.
func TestChangesAreLookedAt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{URL: "https://a.example.com/", EventTypes: []string{"lead.created"}, Enabled: true})
	item := "/api/v1/webhooks/" + e.ID
	kept, forgotten := []look{{e.ID, false}}, []look{{e.ID, true}}
	for _, tt := range []struct {
		change string
		want   []look
	}{
		{`{}`, nil},
		{`{"description":"x","events":["lead.updated"],"max_age":"1h"}`, nil},
		{`{"rate_limit":5}`, kept},
		{`{"max_in_flight":1}`, kept},
		{`{"ordering":"fifo"}`, kept},
		{`{"enabled":true}`, kept}, // it was
		{`{"url":"https://a.example.com/"}`, kept},
		{`{"url":"https://b.example.com/"}`, forgotten},
		{`{"enabled":false}`, nil}, // everything waits
		{`{"rate_limit":null}`, nil},
		{`{"on_disable":"drop"}`, forgotten}, // what waits is given up, whatever it waits for
		{`{"enabled":true}`, forgotten},
		{`{"enabled":false}`, forgotten},
	} {
		f.store.looks = nil
		f.call("PATCH", item, tt.change).want(200, "")
		if diff := cmp.Diff(tt.want, f.store.looks, cmp.AllowUnexported(look{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.change, diff)
		}
	}
}

// stubAnnouncer remembers what was announced; hangs makes it wait for its
// context.
type stubAnnouncer struct {
	mu    sync.Mutex
	said  []string
	hangs bool
}

func (a *stubAnnouncer) say(ctx context.Context, what string) error {
	a.mu.Lock()
	a.said = append(a.said, what)
	a.mu.Unlock()
	if a.hangs {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

func (a *stubAnnouncer) Disabled(ctx context.Context, e *core.Endpoint, reason core.Reason) error {
	return a.say(ctx, "disabled "+e.ID+" "+string(reason))
}

func (a *stubAnnouncer) Enabled(ctx context.Context, e *core.Endpoint) error {
	return a.say(ctx, "enabled "+e.ID)
}

// What changes whether an endpoint is enabled is announced, nothing else is.
func TestChangesAreAnnounced(t *testing.T) {
	t.Parallel()
	announcer := &stubAnnouncer{}
	f := setup(t, func(o *Options) { o.Announcer = announcer })
	e := f.store.add(core.Endpoint{URL: "https://a.example.com/", EventTypes: []string{"lead.created"}, Enabled: true})
	item := "/api/v1/webhooks/" + e.ID
	for _, change := range []string{
		`{"enabled":true}`, `{"description":"x"}`, `{"enabled":false}`, `{"enabled":false}`, `{"on_disable":"drop"}`, `{"enabled":true}`,
	} {
		f.call("PATCH", item, change).want(200, "")
	}
	if diff := cmp.Diff([]string{"disabled " + e.ID + " ", "enabled " + e.ID}, announcer.said); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
	tally := &f.server.metrics.announced
	if n := testutil.ToFloat64(tally.stored); n != 2 {
		t.Errorf("%v announcements are counted as stored, want 2", n)
	}

	announcer.hangs = true
	f.call("PATCH", item, `{"enabled":false}`).want(200, "") // done all the same
	if n := testutil.ToFloat64(tally.failed); n != 1 || !strings.Contains(f.logs.String(), "not announced") {
		t.Errorf("%v announcements are counted as failed, want 1; logs %s", n, f.logs)
	}
}

// An announcement gets no more time than the answer can wait.
func TestAnnouncementIsBounded(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) {
		o.Announcer = announcerFunc(func(ctx context.Context) error {
			deadline, ok := ctx.Deadline()
			if left := time.Until(deadline); !ok || left > announceBudget {
				t.Errorf("the announcement has %v", left)
			}
			return errors.New("not stored")
		})
	})
	e := f.store.add(core.Endpoint{URL: "https://a.example.com/", Enabled: true})
	f.call("PATCH", "/api/v1/webhooks/"+e.ID, `{"enabled":false}`).want(200, "")
}

type announcerFunc func(context.Context) error

func (a announcerFunc) Disabled(ctx context.Context, _ *core.Endpoint, _ core.Reason) error {
	return a(ctx)
}
func (a announcerFunc) Enabled(ctx context.Context, _ *core.Endpoint) error { return a(ctx) }

// Sealpost's own events can be subscribed to and are listed, but not published.
func TestSystemEvents(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.EventTypes = core.EventTypes{"lead.created"} })
	want := `{"data":["lead.created","sealpost.endpoint.disabled","sealpost.endpoint.enabled","sealpost.endpoint.failing"]}`
	if a := f.call("GET", "/api/v1/event-types", "").want(200, ""); a.body != want {
		t.Errorf("catalogue %s, want %s", a.body, want)
	}
	f.call("POST", "/api/v1/webhooks", `{"url":"https://a.example.com/","events":["lead.created","sealpost.endpoint.failing"]}`).want(201, "")
	f.call("POST", "/api/v1/webhooks", `{"url":"https://a.example.com/","events":["sealpost.endpoint.exploded"]}`).want(422, core.CodeInvalid, "events[0]")
	for _, name := range []string{core.EventEndpointDisabled, "sealpost.endpoint.exploded", "sealpost.\u0065ndpoint.enabled"} {
		f.call("POST", "/api/v1/events", `{"type":"`+name+`","data":1}`).want(422, core.CodeInvalid, "type").detail("only Sealpost itself")
	}
}
