package gateway

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// listEndpoints is GET /api/v1/webhooks.
func (s *Server) listEndpoints(x *exchange) error {
	page, err := endpointPageOf(x.ctx.QueryArgs())
	if err != nil {
		return err
	}
	ctx, cancel := x.storeContext()
	defer cancel()
	endpoints, _, err := s.o.Store.Endpoints(ctx, x.key.Organization)
	if err != nil {
		return err
	}
	shown, next := page.cut(endpoints)
	data, err := s.shown(ctx, shown, x.key)
	if err != nil {
		return err
	}
	if !page.paged {
		return x.replyJSON(fasthttp.StatusOK, struct {
			Data []endpointJSON `json:"data"`
		}{data})
	}
	return x.replyJSON(fasthttp.StatusOK, struct {
		Data       []endpointJSON `json:"data"`
		NextCursor *string        `json:"next_cursor"`
	}{data, next})
}

// shown returns endpoints as they are shown, with what is read beside their
// records: two round trips for all of them.
func (s *Server) shown(ctx context.Context, endpoints []core.Endpoint, key *core.APIKey) ([]endpointJSON, error) {
	data := make([]endpointJSON, len(endpoints))
	if len(endpoints) == 0 {
		return data, nil
	}
	ids, refs := make([]string, len(endpoints)), make([]core.EndpointRef, len(endpoints))
	for i := range endpoints {
		ids[i], refs[i] = endpoints[i].ID, endpoints[i].Ref()
	}
	last, err := s.o.Store.LastAttempts(ctx, ids)
	if err != nil {
		return nil, err
	}
	standings, err := s.o.Store.Standings(ctx, refs)
	if err != nil {
		return nil, err
	}
	now := s.o.Now()
	for i := range endpoints {
		e := &endpoints[i]
		data[i] = newEndpointJSON(e, last[i], newStandingJSON(e, &standings[i], now), key)
	}
	return data, nil
}

// getEndpoint is GET /api/v1/webhooks/{id}.
func (s *Server) getEndpoint(x *exchange) error {
	ctx, cancel := x.storeContext()
	defer cancel()
	e, err := s.find(ctx, x)
	if err != nil {
		return err
	}
	return s.replyEndpoint(ctx, x, e)
}

// find reads the endpoint of the path.
func (s *Server) find(ctx context.Context, x *exchange) (*core.Endpoint, error) {
	ref, err := x.ref()
	if err != nil {
		return nil, err
	}
	return s.o.Store.Endpoint(ctx, ref)
}

// findWithBody reads the endpoint of the path and then the body of a request that
// changes it. The time that the caller needs to send the body is not the store's,
// so what follows needs a context of its own.
func (s *Server) findWithBody(x *exchange) (*core.Endpoint, []byte, error) {
	ctx, cancel := x.storeContext()
	defer cancel()
	e, err := s.find(ctx, x)
	if err != nil {
		return nil, nil, err
	}
	body, err := s.readBody(x, maxManagementBody)
	return e, body, err
}

// replyEndpoint answers with the full resource.
func (s *Server) replyEndpoint(ctx context.Context, x *exchange, e *core.Endpoint) error {
	data, err := s.shown(ctx, []core.Endpoint{*e}, x.key)
	if err != nil {
		return err
	}
	return x.replyJSON(fasthttp.StatusOK, data[0])
}

// replyChanged answers a change of e that is done. A store that fails now makes it
// no failure: what it knows beside the record is left out.
func (s *Server) replyChanged(x *exchange, e *core.Endpoint) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), extraBudget, errStoreBudget)
	defer cancel()
	data, err := s.shown(ctx, []core.Endpoint{*e}, x.key)
	if err != nil {
		s.o.Logger.Warn("a change was answered without the endpoint's last attempt and state", "endpoint", e.ID, "error", err)
		return x.replyJSON(fasthttp.StatusOK, newEndpointJSON(e, nil, nil, x.key))
	}
	return x.replyJSON(fasthttp.StatusOK, data[0])
}

// createEndpoint is POST /api/v1/webhooks.
func (s *Server) createEndpoint(x *exchange) error {
	body, err := s.readBody(x, maxManagementBody)
	if err != nil {
		return err
	}
	f, err := x.parseForm(body, endpointMembers()...)
	if err != nil {
		return err
	}
	f.require("url", "events")
	c, err := s.readChange(f)
	if err != nil {
		return err
	}
	now := s.o.Now().UTC().Truncate(time.Millisecond)
	e := &core.Endpoint{
		ID: core.NewEndpointID(), Organization: x.key.Organization, Enabled: true, CreatedAt: now, Revision: 1,
	}
	if err := c.apply(e); err != nil {
		return err
	}
	secret, record := s.o.Keyring.NewSecret(e.Ref(), 1, now)
	e.Secrets = []core.Secret{record}
	ctx, cancel := x.storeContext()
	defer cancel()
	if err := s.o.Store.CreateEndpoint(ctx, e, s.o.MaxEndpoints); err != nil {
		return err
	}
	s.logChange(x, "endpoint created", e.ID)
	x.ctx.Response.Header.Set("Location", "/api/v1/webhooks/"+e.ID)
	x.noStore()
	return x.replyJSON(fasthttp.StatusCreated, newCreatedJSON(e, secret))
}

// patchEndpoint is PATCH /api/v1/webhooks/{id}.
func (s *Server) patchEndpoint(x *exchange) error {
	e, body, err := s.findWithBody(x)
	if err != nil {
		return err
	}
	f, err := x.parseForm(body, endpointMembers("enabled")...)
	if err != nil {
		return err
	}
	c, err := s.readChange(f)
	if err != nil {
		return err
	}
	ctx, cancel := x.storeContext()
	defer cancel()
	if c.empty() {
		return s.replyEndpoint(ctx, x, e)
	}
	var before core.Endpoint
	e, err = s.o.Store.UpdateEndpoint(ctx, e.Ref(), func(e *core.Endpoint) error {
		before = *e
		return c.apply(e)
	})
	if err != nil {
		return err
	}
	s.logChange(x, "endpoint changed", e.ID)
	if c.mustHoldAtOnce() {
		time.Sleep(core.ChangeDelay)
	}
	s.followUp(c, &before, e)
	return s.replyChanged(x, e)
}

// deleteEndpoint is DELETE /api/v1/webhooks/{id}. Its answer promises that no
// request to the endpoint begins any more.
func (s *Server) deleteEndpoint(x *exchange) error {
	ref, err := x.ref()
	if err != nil {
		return err
	}
	ctx, cancel := x.storeContext()
	defer cancel()
	if err := s.o.Store.DeleteEndpoint(ctx, ref); err != nil {
		return err
	}
	s.logChange(x, "endpoint deleted", ref.ID)
	time.Sleep(core.ChangeDelay)
	ctx, cancel = x.storeContext()
	defer cancel()
	if err := s.o.Store.ForgetEndpoint(ctx, ref); err != nil {
		// The endpoint is gone all the same; what it left behind expires.
		s.o.Logger.Warn("attempts of a deleted endpoint were not removed", "endpoint", ref.ID, "error", err)
	}
	return x.replyJSON(fasthttp.StatusOK, deletedJSON{ID: ref.ID, Deleted: true})
}

// noStore keeps an answer with a secret out of caches.
func (x *exchange) noStore() { x.ctx.Response.Header.Set("Cache-Control", "no-store") }
