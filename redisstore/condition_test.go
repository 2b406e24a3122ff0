package redisstore

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

func TestConditionLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		condition core.Condition
		line      string
	}{
		{core.Condition{}, ""},
		{core.Condition{State: core.StateActive, Since: instant(1)}, ""},
		{core.Condition{State: core.StateSlow, Since: instant(0), Until: instant(1)}, "1 slow 1764000000123 1764000001123 0 0 "},
		{core.Condition{State: core.StateThrottled}, "1 throttled 0 0 0 0 "},
		{core.Condition{State: core.StatePaused, Head: "whd_1", HeadAttempts: 3}, "2 paused 0 0 0 3 whd_1"},
		{core.Condition{State: core.StateFailing, Probes: 7}, "3 failing 0 0 7 0 "},
		{core.Condition{State: core.StateCatchingUp}, "4 catching_up 0 0 0 0 "},
	} {
		if line := encodeCondition(&tt.condition); line != tt.line {
			t.Errorf("%+v is %q; want %q", tt.condition, line, tt.line)
		}
		if tt.line == "" {
			continue
		}
		if c, err := parseCondition(tt.line); err != nil || c != tt.condition {
			t.Errorf("%q is %+v, %v; want %+v", tt.line, c, err, tt.condition)
		}
	}
	for _, line := range []string{"x", "1 slow 0 0 0 0", "1 slow 0 x 0 0 ", "9 upside_down 0 0 0 0 ", "0 active 0 0 0 0 "} {
		if c, err := parseCondition(line); err == nil {
			t.Errorf("%q is read as %+v", line, c)
		}
	}
}

// standing returns what is noted about an endpoint.
func standing(t *testing.T, s *Store, ref core.EndpointRef) core.Standing {
	t.Helper()
	standings, err := s.Standings(t.Context(), []core.EndpointRef{ref})
	noError(t, err)
	return standings[0]
}

// The graver condition stays, the later end where they are as grave.
func TestGraverConditionStays(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Millisecond)
	in := func(state core.State, d time.Duration) core.Condition {
		return core.Condition{State: state, Since: now, Until: now.Add(d)}
	}
	known := in(core.StateThrottled, time.Hour)
	known.Head, known.HeadAttempts = "whd_1", 4
	paused := in(core.StatePaused, time.Hour)
	both := paused
	both.Head, both.HeadAttempts = known.Head, known.HeadAttempts
	other := paused
	other.Head, other.HeadAttempts = "whd_2", 1
	tests := []struct {
		name             string
		first, then, end core.Condition
	}{
		{"none", core.Condition{}, core.Condition{}, core.Condition{}},
		{"none to slow", core.Condition{}, in(core.StateSlow, time.Hour), in(core.StateSlow, time.Hour)},
		{"nothing new", in(core.StateSlow, time.Hour), core.Condition{}, in(core.StateSlow, time.Hour)},
		{"slow to paused", in(core.StateSlow, 2*time.Hour), paused, paused},
		{"paused to slow", paused, in(core.StateSlow, 2*time.Hour), paused},
		{"slow to longer throttled", in(core.StateSlow, time.Hour), in(core.StateThrottled, 2*time.Hour), in(core.StateThrottled, 2*time.Hour)},
		{"throttled to shorter slow", in(core.StateThrottled, 2*time.Hour), in(core.StateSlow, time.Hour), in(core.StateThrottled, 2*time.Hour)},
		{"paused for shorter", paused, in(core.StatePaused, time.Minute), paused},
		{"paused for longer", paused, in(core.StatePaused, 2*time.Hour), in(core.StatePaused, 2*time.Hour)},
		{"failing to paused", in(core.StateFailing, -time.Hour), paused, in(core.StateFailing, -time.Hour)},
		{"paused to failing", paused, in(core.StateFailing, time.Second), in(core.StateFailing, time.Second)},
		{"failing to catching up", in(core.StateFailing, time.Hour), in(core.StateCatchingUp, 0), in(core.StateCatchingUp, 0)},
		{"catching up to failing", in(core.StateCatchingUp, 0), in(core.StateFailing, time.Hour), in(core.StateCatchingUp, 0)},
		{"catching up for longer", in(core.StateCatchingUp, 0), in(core.StateCatchingUp, time.Hour), in(core.StateCatchingUp, 0)},
		{"pause has ended", in(core.StatePaused, -time.Second), in(core.StateSlow, time.Hour), in(core.StateSlow, time.Hour)},
		{"head is kept", known, paused, both},
		{"head is replaced", known, other, other},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, s *Store) {
				ref := endpoint("acme", 1).Ref()
				for _, c := range []core.Condition{tt.first, tt.then, tt.then} {
					park(t, s, core.Parking{Endpoint: ref, Condition: c})
				}
				if diff := cmp.Diff(core.Standing{Condition: tt.end}, standing(t, s, ref)); diff != "" {
					t.Errorf("standing (-want +got):\n%s", diff)
				}
				idle(t, s)
			})
		})
	}
}

// When a backlog that nobody has claimed is looked at.
func TestDueOfParked(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Millisecond)
	in := func(state core.State, d time.Duration) core.Condition {
		return core.Condition{State: state, Since: now, Until: now.Add(d)}
	}
	hour, never := now.Add(time.Hour), time.Time{}
	tests := []struct {
		name      string
		condition core.Condition
		dues      []time.Time
		want      time.Duration
		rings     int64
	}{
		{"at once", core.Condition{}, []time.Time{never, never}, 0, 1},
		{"given", core.Condition{}, []time.Time{hour, now.Add(2 * time.Hour)}, time.Hour, 0},
		{"given is past", core.Condition{}, []time.Time{now.Add(-time.Second)}, 0, 1},
		{"arranged before", core.Condition{}, []time.Time{never, hour}, 0, 1},
		{"sooner than arranged", core.Condition{}, []time.Time{hour, never}, 0, 1},
		{"slow", in(core.StateSlow, time.Hour), []time.Time{hour, never}, 0, 1},
		{"catching up", in(core.StateCatchingUp, 0), []time.Time{hour, never}, 0, 1},
		{"paused", in(core.StatePaused, time.Hour), []time.Time{never, never}, time.Hour, 0},
		{"paused, given", in(core.StatePaused, time.Hour), []time.Time{now.Add(2 * time.Hour), never}, 2 * time.Hour, 0},
		{"failing", in(core.StateFailing, time.Hour), []time.Time{never, never}, time.Hour, 0},
		{"probe is due", in(core.StateFailing, -time.Hour), []time.Time{never, never}, 0, 1},
		{"pause has ended", in(core.StatePaused, -time.Hour), []time.Time{hour, never}, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, s *Store) {
				ref := endpoint("acme", 1).Ref()
				for _, due := range tt.dues {
					park(t, s, core.Parking{Endpoint: ref, Condition: tt.condition, Due: due, Deliveries: parcels(ref, 1, 10)})
				}
				if got := dueIn(t, s, ref); !near(got, tt.want) {
					t.Errorf("due in %v; want %v", got, tt.want)
				}
				if got := rings(t, s); got != tt.rings {
					t.Errorf("%d rings; want %d", got, tt.rings)
				}
			})
		})
	}
}

func TestFailing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a, b := endpoint("acme", 1), endpoint("other", 2)
		for _, e := range []*core.Endpoint{a, b} {
			noError(t, s.CreateEndpoint(ctx, e, 2))
		}
		warn := func(ref core.EndpointRef, percent int, want bool) {
			t.Helper()
			raised, err := s.RaiseWarning(ctx, ref, percent)
			noError(t, err)
			if raised != want {
				t.Errorf("warning at %d %%: %t; want %t", percent, raised, want)
			}
		}
		warn(a.Ref(), 50, false)
		park(t, s, core.Parking{Endpoint: a.Ref(), Failing: instant(1)}, core.Parking{Endpoint: b.Ref(), Failing: instant(5)})
		park(t, s, core.Parking{Endpoint: a.Ref(), Failing: instant(2), Condition: core.Condition{State: core.StateFailing, Since: instant(3)}})
		warn(a.Ref(), 75, true)
		warn(a.Ref(), 75, false)
		warn(a.Ref(), 50, false)
		warn(a.Ref(), 90, true)
		a.Failing, a.Condition = core.Failing{Since: instant(1), Warned: 90}, core.Condition{State: core.StateFailing, Since: instant(3)}
		b.Failing = core.Failing{Since: instant(5)}
		refs := []core.EndpointRef{b.Ref(), {Organization: "acme", ID: "x"}, a.Ref()}
		got, err := s.Records(ctx, refs)
		noError(t, err)
		if diff := cmp.Diff([]*core.Endpoint{b, nil, a}, got); diff != "" {
			t.Errorf("Records (-want +got):\n%s", diff)
		}
		noError(t, s.NoteRecovered(ctx, refs))
		noError(t, s.NoteRecovered(ctx, nil))
		standings, err := s.Standings(ctx, refs)
		noError(t, err)
		if diff := cmp.Diff([]core.Standing{{}, {}, {Condition: a.Condition}}, standings); diff != "" {
			t.Errorf("Standings (-want +got):\n%s", diff)
		}
		warn(a.Ref(), 90, false)
		if standings, err := s.Standings(ctx, nil); len(standings) != 0 || err != nil {
			t.Errorf("Standings of nothing = %v, %v", standings, err)
		}
	})
}

// What another version noted must not keep an endpoint's deliveries from being sent.
func TestUnreadableConditionIsNone(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	e := endpoint("acme", 1)
	noError(t, s.CreateEndpoint(ctx, e, 2))
	noError(t, client.HSet(ctx, conditionsKey, e.ID, "9 upside_down 0 0").Err())
	noError(t, client.HSet(ctx, failingKey, e.ID, "since yesterday").Err())
	got, err := s.Records(ctx, []core.EndpointRef{e.Ref()})
	noError(t, err)
	if diff := cmp.Diff([]*core.Endpoint{e}, got); diff != "" {
		t.Errorf("Records (-want +got):\n%s", diff)
	}
	slow := core.Condition{State: core.StateSlow, Since: instant(1), Until: time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)}
	park(t, s, core.Parking{Endpoint: e.Ref(), Condition: slow})
	if got := standing(t, s, e.Ref()); got.Condition != slow {
		t.Errorf("condition %+v; want %+v", got.Condition, slow)
	}
}
