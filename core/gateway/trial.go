package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// trialJSON is what happened when an endpoint was tested.
type trialJSON struct {
	EventID        string            `json:"event_id"`
	Status         core.Status       `json:"status"` // delivered or failed
	ResponseStatus *int              `json:"response_status"`
	Error          *core.Reason      `json:"error"`
	Address        core.AddressClass `json:"address,omitempty"`
	Timings        *timingsJSON      `json:"timings"` // null: the address may not be reached
}

// timingsJSON are durations in milliseconds, 0 for what did not happen.
type timingsJSON struct {
	DNS       float64 `json:"dns_ms"`
	Connect   float64 `json:"connect_ms"`
	TLS       float64 `json:"tls_ms"`
	FirstByte float64 `json:"first_byte_ms"`
	Total     float64 `json:"total_ms"`
}

func newTrialJSON(ev *core.Event, t *core.Trial) trialJSON {
	out := trialJSON{EventID: ev.ID, Status: core.StatusDelivered, ResponseStatus: optionalStatus(t.ResponseStatus), Address: t.Address}
	if t.Reason != "" {
		out.Status, out.Error = core.StatusFailed, &t.Reason
	}
	if t.Reason != core.ReasonBlocked {
		out.Timings = &timingsJSON{
			DNS: millis(t.DNS), Connect: millis(t.Connect), TLS: millis(t.TLS), FirstByte: millis(t.FirstByte), Total: millis(t.Total),
		}
	}
	return out
}

// millis returns d in ms with three decimals.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// testEndpoint is POST /api/v1/webhooks/{id}/test. The answer waits for the
// endpoint's, as long as the Tester does.
func (s *Server) testEndpoint(x *exchange) error {
	e, body, err := s.findWithBody(x)
	if err != nil {
		return err
	}
	if err := x.parseNothing(body); err != nil {
		return err
	}
	if !e.Enabled {
		return &core.Error{Code: core.CodeConflict, Detail: "the endpoint is disabled: nothing is sent to it"}
	}
	if err := s.allowTest(x); err != nil {
		return err
	}
	ev := newTestEvent(e, s.o.Now().UTC().Truncate(time.Millisecond))
	trial, err := s.o.Tester.Try(context.Background(), e, ev)
	if err != nil {
		return err
	}
	return x.replyJSON(fasthttp.StatusOK, newTrialJSON(ev, &trial))
}

// allowTest returns CodeRateLimited if the organization has tested a moment ago.
func (s *Server) allowTest(x *exchange) error {
	ctx, cancel := x.storeContext()
	defer cancel()
	wait, err := s.o.Store.AllowTest(ctx, x.key.Organization)
	if err != nil {
		return err
	}
	if wait > 0 {
		return &core.Error{Code: core.CodeRateLimited, Detail: "an organization may test one endpoint a second", RetryAfter: wait}
	}
	return nil
}

// newTestEvent returns the event that tests e, with the body that receivers get.
func newTestEvent(e *core.Endpoint, now time.Time) *core.Event {
	body := fmt.Sprintf(`{"type":%q,"timestamp":%q,"data":{"endpoint_id":%q}}`, core.EventTest, formatTime(now), e.ID)
	return &core.Event{ID: core.NewEventID(now), Type: core.EventTest, Body: []byte(body), AcceptedAt: now}
}
