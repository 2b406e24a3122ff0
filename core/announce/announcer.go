package announce

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/core"
)

// patience bounds an announcement, unless its caller's context ends sooner.
const patience = 5 * time.Second

var errPatience = errors.New("the announcement was not stored in time")

// Store finds endpoints, and keeps deliveries in their backlogs.
type Store interface {
	// Endpoints returns all of an organization.
	Endpoints(ctx context.Context, organization string) (endpoints []core.Endpoint, version string, err error)
	// Park stores deliveries in backlogs. Its error is that of all of them.
	Park(ctx context.Context, ps []core.Parking) ([]core.Parked, error)
}

// Queue stores deliveries that are sent at once.
type Queue interface {
	// Enqueue returns nil when all deliveries are stored, else an error for each
	// of them, nil for those that are.
	Enqueue(ctx context.Context, ds []core.Delivery) []error
}

// Announcer stores announcements. Make one with New; it is safe for concurrent
// use.
type Announcer struct {
	store Store
	queue Queue
	now   func() time.Time
}

// New returns an Announcer. A nil now is time.Now.
func New(store Store, queue Queue, now func() time.Time) *Announcer {
	if now == nil {
		now = time.Now
	}
	return &Announcer{store: store, queue: queue, now: now}
}

// Disabled announces that e has been disabled: by request if reason is "", else
// because of what its attempts led to. e.Failing tells since when it failed.
func (a *Announcer) Disabled(ctx context.Context, e *core.Endpoint, reason core.Reason) error {
	return a.announce(ctx, e, core.EventEndpointDisabled, &subject{Reason: reasonText(reason), FailingSince: timeText(e.Failing.Since)})
}

// Enabled announces that e has been enabled, which only happens by request.
func (a *Announcer) Enabled(ctx context.Context, e *core.Endpoint) error {
	return a.announce(ctx, e, core.EventEndpointEnabled, &subject{Reason: reasonText("")})
}

// Failing announces that e has done nothing but fail since, and will be disabled
// at disableAt unless that changes. percent of the time in between has passed.
func (a *Announcer) Failing(ctx context.Context, e *core.Endpoint, since, disableAt time.Time, percent int) error {
	return a.announce(ctx, e, core.EventEndpointFailing, &subject{
		FailingSince: timeText(since), DisableAt: timeText(disableAt), WarningPercent: percent,
	})
}

// announce stores a delivery for every endpoint that wants to know.
func (a *Announcer) announce(ctx context.Context, about *core.Endpoint, eventType string, s *subject) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	endpoints, _, err := a.store.Endpoints(ctx, about.Organization)
	if err != nil {
		return fmt.Errorf("announce %s: find endpoints: %w", eventType, err)
	}
	now := a.now()
	s.EndpointID, s.URL = about.ID, shownURL(about.URL)
	event, err := newEvent(eventType, s, now)
	if err != nil {
		return fmt.Errorf("announce %s: %w", eventType, err)
	}
	var direct []core.Delivery
	var parked []core.Parking
	for i := range endpoints {
		e := &endpoints[i]
		if e.ID == about.ID || !e.Wants(eventType) {
			continue
		}
		d := core.Delivery{ID: core.NewDeliveryID(now), Organization: e.Organization, Endpoint: e.ID, Event: event}
		if look, parks := e.ParksFresh(); parks {
			parked = append(parked, core.Parking{Endpoint: e.Ref(), Due: core.DueAfter(now, look), Deliveries: []core.Delivery{d}})
		} else {
			direct = append(direct, d)
		}
	}
	if err := a.save(ctx, direct, parked); err != nil {
		return fmt.Errorf("announce %s: %w", eventType, err)
	}
	return nil
}

// save stores everything it can and returns the first of each half's errors.
func (a *Announcer) save(ctx context.Context, direct []core.Delivery, parked []core.Parking) error {
	var queued, waiting error
	if len(direct) > 0 {
		for _, err := range a.queue.Enqueue(ctx, direct) {
			if err != nil {
				queued = fmt.Errorf("enqueue: %w", err)
				break
			}
		}
	}
	if len(parked) > 0 {
		if _, err := a.store.Park(ctx, parked); err != nil {
			waiting = fmt.Errorf("park: %w", err)
		}
	}
	return errors.Join(queued, waiting)
}
