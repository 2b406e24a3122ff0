package gateway

import (
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// eventDeliveryJSON is a delivery of an event with its attempts, as far as they are
// kept.
type eventDeliveryJSON struct {
	ID         string        `json:"id"`
	EndpointID string        `json:"endpoint_id"`
	Status     core.Status   `json:"status"`      // of the newest attempt
	DeadLetter bool          `json:"dead_letter"` // it can be replayed
	Attempts   []attemptJSON `json:"attempts"`    // newest first
}

// attemptJSON is an attempt of a delivery that is named around it.
type attemptJSON struct {
	Attempt        int          `json:"attempt"`
	Status         core.Status  `json:"status"`
	ResponseStatus *int         `json:"response_status"`
	Error          *core.Reason `json:"error"`
	StartedAt      string       `json:"started_at"`
	LatencyMS      int64        `json:"latency_ms"`
	NextAttemptAt  *string      `json:"next_attempt_at"`
}

func newAttemptJSON(a *core.Attempt) attemptJSON {
	out := attemptJSON{
		Attempt: a.Number, Status: a.Status, ResponseStatus: optionalStatus(a.ResponseStatus), StartedAt: formatTime(a.StartedAt),
		LatencyMS: a.Latency.Milliseconds(), NextAttemptAt: optionalTime(a.NextAt),
	}
	if a.Reason != "" {
		out.Error = &a.Reason
	}
	return out
}

// maxTrails bounds the events that are being followed in a process: each looks
// through the logs of all endpoints of an organization.
const maxTrails = 4

// getEvent is GET /api/v1/events/{event}.
func (s *Server) getEvent(x *exchange) error {
	if !core.ValidEventID(x.item) {
		return core.NotFound("event")
	}
	ctx, cancel := x.storeContext()
	defer cancel()
	endpoints, _, err := s.o.Store.Endpoints(ctx, x.key.Organization)
	if err != nil {
		return err
	}
	ids := make([]string, len(endpoints))
	for i := range endpoints {
		ids[i] = endpoints[i].ID
	}
	wait, err := s.o.Store.AllowTrail(ctx, x.key.Organization, len(ids))
	switch {
	case err != nil:
		return err
	case wait > 0:
		return &core.Error{Code: core.CodeRateLimited, Detail: "the organization has followed too many events lately", RetryAfter: wait}
	}
	// Behind the allowance: who has spent it keeps no place from others.
	select {
	case s.trails <- struct{}{}:
		defer func() { <-s.trails }()
	default:
		return core.Unavailable("too many events are being followed", nil)
	}
	trails, err := s.o.Store.EventTrails(ctx, ids, x.item)
	if err != nil {
		return err
	}
	if len(trails) == 0 {
		return core.NotFound("event")
	}
	return x.replyJSON(fasthttp.StatusOK, struct {
		ID         string              `json:"id"`
		Event      string              `json:"event"`
		Deliveries []eventDeliveryJSON `json:"deliveries"`
	}{x.item, trails[0].Attempts[0].EventType, eventDeliveries(trails)})
}

// eventDeliveries returns the deliveries of trails, each with its attempts.
func eventDeliveries(trails []core.EventTrail) []eventDeliveryJSON {
	var out []eventDeliveryJSON
	for i := range trails {
		t, first := &trails[i], len(out)
		for j := range t.Attempts {
			a := &t.Attempts[j]
			k := slices.IndexFunc(out[first:], func(d eventDeliveryJSON) bool { return d.ID == a.Delivery })
			if k < 0 {
				k = len(out) - first
				out = append(out, eventDeliveryJSON{
					ID: a.Delivery, EndpointID: t.Endpoint, Status: a.Status, DeadLetter: slices.Contains(t.Dead, a.Delivery),
				})
			}
			out[first+k].Attempts = append(out[first+k].Attempts, newAttemptJSON(a))
		}
	}
	return out
}
