package gateway

import (
	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// deliveryJSON is one row of an endpoint's attempts.
type deliveryJSON struct {
	ID             string       `json:"id"` // of the delivery: its attempts share it
	Event          string       `json:"event"`
	Status         core.Status  `json:"status"`
	ResponseStatus *int         `json:"response_status"`
	LatencyMS      int64        `json:"latency_ms"`
	Attempt        int          `json:"attempt"`
	DeliveredAt    *string      `json:"delivered_at"`
	EventID        string       `json:"event_id"`
	Error          *core.Reason `json:"error"`
	NextAttemptAt  *string      `json:"next_attempt_at"`
}

func newDeliveryJSON(a *core.Attempt) deliveryJSON {
	out := deliveryJSON{
		ID: a.Delivery, Event: a.EventType, Status: a.Status, ResponseStatus: optionalStatus(a.ResponseStatus),
		LatencyMS: a.Latency.Milliseconds(), Attempt: a.Number, EventID: a.Event, NextAttemptAt: optionalTime(a.NextAt),
	}
	if a.Status == core.StatusDelivered {
		out.DeliveredAt = optionalTime(a.EndedAt())
	}
	if a.Reason != "" {
		out.Error = &a.Reason
	}
	return out
}

// listDeliveries is GET /api/v1/webhooks/{id}/deliveries.
func (s *Server) listDeliveries(x *exchange) error {
	ctx, cancel := x.storeContext()
	defer cancel()
	e, err := s.find(ctx, x)
	if err != nil {
		return err
	}
	page, err := attemptPageOf(x.ctx.QueryArgs())
	if err != nil {
		return err
	}
	attempts, err := s.o.Store.Attempts(ctx, e.ID, page.failures())
	if err != nil {
		return err
	}
	shown, next := page.cut(attempts)
	data := make([]deliveryJSON, len(shown))
	for i := range shown {
		data[i] = newDeliveryJSON(&shown[i])
	}
	return x.replyJSON(fasthttp.StatusOK, struct {
		Data       []deliveryJSON `json:"data"`
		NextCursor *string        `json:"next_cursor"`
	}{data, next})
}
