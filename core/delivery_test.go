package core_test

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

func TestDeliveryCreatedAt(t *testing.T) {
	t.Parallel()
	accepted := time.Date(2026, 4, 27, 17, 42, 17, 859e6, time.UTC)
	later := accepted.Add(40 * 24 * time.Hour)
	event := &core.Event{ID: "evt_1", AcceptedAt: accepted}
	first := core.Delivery{ID: core.NewDeliveryID(accepted), Organization: "acme", Endpoint: "e", Event: event, Attempts: 12, Due: later}
	again := first.Replay(later)
	for name, tt := range map[string]struct {
		d    core.Delivery
		want time.Time
	}{
		"with its event":            {first, accepted},
		"replayed":                  {again, later},
		"a clock that is behind":    {core.Delivery{ID: core.NewDeliveryID(accepted.Add(-time.Hour)), Event: event}, accepted},
		"an id that tells no times": {core.Delivery{ID: "whd_1", Event: event}, accepted},
	} {
		if got := tt.d.CreatedAt(); !got.Equal(tt.want) {
			t.Errorf("%s: made at %v, want %v", name, got, tt.want)
		}
	}
	if again.ID == first.ID || again.Attempts != 0 || !again.Due.IsZero() || again.Event != event || again.Ref() != first.Ref() {
		t.Errorf("replayed: %+v", again)
	}
	for id, want := range map[string]bool{first.ID: true, "whd_1": false, "": false, "evt" + first.ID[3:]: false, first.ID + "0": false} {
		if core.ValidDeliveryID(id) != want {
			t.Errorf("%q is a delivery's id: %t", id, !want)
		}
	}
}
