package gateway

import (
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// recoveryJSON is a recovery as the API shows it.
type recoveryJSON struct {
	ID        string             `json:"id"`
	Status    core.RecoveryState `json:"status"`
	Error     *core.Reason       `json:"error"` // why it was stopped
	Since     *string            `json:"since"`
	Until     *string            `json:"until"`
	Total     int                `json:"total"`
	Replayed  int                `json:"replayed"`
	Skipped   int                `json:"skipped"`
	Held      bool               `json:"held"` // the endpoint is disabled: deliveries wait until it is enabled
	CreatedAt string             `json:"created_at"`
	EndedAt   *string            `json:"ended_at"`
}

func newRecoveryJSON(r *core.Recovery, e *core.Endpoint) recoveryJSON {
	out := recoveryJSON{
		ID: r.ID, Status: r.State, Since: optionalTime(r.Since), Until: optionalTime(r.Until), Total: r.Total, Replayed: r.Replayed,
		Skipped: r.Skipped, Held: e.Holds(), CreatedAt: formatTime(r.CreatedAt), EndedAt: optionalTime(r.EndedAt),
	}
	if r.Reason != "" {
		out.Error = &r.Reason
	}
	return out
}

// startRecovery is POST /api/v1/webhooks/{id}/recover.
func (s *Server) startRecovery(x *exchange) error {
	e, body, err := s.findWithBody(x)
	if err != nil {
		return err
	}
	f, err := x.parseForm(body, "since", "until")
	if err != nil {
		return err
	}
	f.require("since")
	return s.beginRecovery(x, e, f)
}

// beginRecovery begins a recovery of the dead letters that f names.
func (s *Server) beginRecovery(x *exchange, e *core.Endpoint, f *form) error {
	now := s.o.Now().UTC().Truncate(time.Millisecond)
	since, _ := f.instant("since")
	until, bounded := f.instant("until")
	if bounded && !until.After(since) {
		f.errs.add("until", "must be later than since")
	}
	if err := f.err(); err != nil {
		return err
	}
	if err := e.Replayable(); err != nil {
		return err
	}
	ctx, cancel := x.storeContext()
	defer cancel()
	r := &core.Recovery{ID: core.NewRecoveryID(now), Endpoint: e.Ref(), Since: since, Until: until, CreatedAt: now}
	if err := s.o.Store.StartRecovery(ctx, r); err != nil {
		return err
	}
	s.logChange(x, "recovery started", e.ID)
	x.ctx.Response.Header.Set("Location", "/api/v1/webhooks/"+e.ID+"/recover/"+r.ID)
	return x.replyJSON(fasthttp.StatusAccepted, newRecoveryJSON(r, e))
}

// getRecovery is GET /api/v1/webhooks/{id}/recover/{job}.
func (s *Server) getRecovery(x *exchange) error {
	ctx, cancel := x.storeContext()
	defer cancel()
	e, err := s.find(ctx, x)
	if err != nil {
		return err
	}
	if !core.ValidRecoveryID(x.item) {
		return core.NotFound("recovery")
	}
	r, err := s.o.Store.Recovery(ctx, e.Ref(), x.item)
	if err != nil {
		return err
	}
	return x.replyJSON(fasthttp.StatusOK, newRecoveryJSON(r, e))
}
