package core_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

// Where a fresh delivery goes, by the endpoint's settings.
func TestFreshDelivery(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		e            core.Endpoint
		takes, parks bool
		look         time.Duration
	}{
		{"ordinary", core.Endpoint{Enabled: true}, true, false, 0},
		{"enabled, would drop", core.Endpoint{Enabled: true, Drop: true}, true, false, 0},
		{"fifo", core.Endpoint{Enabled: true, FIFO: true}, true, true, 0},
		{"in flight", core.Endpoint{Enabled: true, MaxInFlight: 2}, true, true, 0},
		{"rate", core.Endpoint{Enabled: true, RateLimit: 0.5}, true, true, 0},
		{"held", core.Endpoint{}, true, true, core.HeldLook},
		{"held, paced", core.Endpoint{FIFO: true}, true, true, core.HeldLook},
		{"dropped", core.Endpoint{Drop: true}, false, false, 0},
	}
	for _, tt := range tests {
		tt.e.EventTypes = []string{"lead.created"}
		if tt.e.Takes() != tt.takes || tt.e.Wants("lead.created") != tt.takes || tt.e.Wants("lead.updated") {
			t.Errorf("%s: takes %v, wants %v", tt.name, tt.e.Takes(), tt.e.Wants("lead.created"))
		}
		if !tt.takes {
			continue
		}
		if look, parks := tt.e.ParksFresh(); parks != tt.parks || look != tt.look {
			t.Errorf("%s: parks %v, looked at after %v", tt.name, parks, look)
		}
	}
}

func TestCheckPace(t *testing.T) {
	t.Parallel()
	for inFlight, want := range []core.Code{"", "", core.CodeInvalid} {
		e := core.Endpoint{FIFO: true, MaxInFlight: inFlight}
		if got := core.CodeOf(e.CheckPace()); got != want {
			t.Errorf("fifo with %d in flight: %q, want %q", inFlight, got, want)
		}
		e.FIFO = false
		if err := e.CheckPace(); err != nil {
			t.Errorf("%d in flight: %v", inFlight, err)
		}
	}
}

func TestSystemEventTypes(t *testing.T) {
	t.Parallel()
	producers := core.EventTypes{"lead.created"}
	all := producers.WithSystem()
	if len(producers) != 1 || len(all) != 1+len(core.SystemEventTypes()) || !all.Has("lead.created") {
		t.Errorf("catalogue %q", all)
	}
	for _, name := range core.SystemEventTypes() {
		if !core.ValidEventType(name) || !core.SystemEventType(name) || !all.Has(name) {
			t.Errorf("%q is no type of a system event", name)
		}
	}
	if slices.ContainsFunc(core.DefaultEventTypes(), core.SystemEventType) || core.SystemEventType("sealposted.x") {
		t.Error("an ordinary type counts as Sealpost's own")
	}
}
