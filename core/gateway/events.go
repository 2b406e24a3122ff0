package gateway

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
)

// maxIdempotencyKey bounds the Idempotency-Key header, in bytes.
const maxIdempotencyKey = 255

// bodyKind keeps the idempotency hashes of different kinds of body apart: the
// same bytes mean something else on another route.
type bodyKind byte

const (
	kindEvent bodyKind = iota
	kindArray
	kindLines
)

// hash returns what must be the same when an idempotency key is used again.
func (k bodyKind) hash(body []byte) [sha256.Size]byte {
	sum := sha256.Sum256(body)
	if k == kindEvent {
		return sum
	}
	return sha256.Sum256(append(sum[:], byte(k)))
}

// postEvent is POST /api/v1/events.
func (s *Server) postEvent(x *exchange) error {
	s.follow(x)
	r, err := s.readEvent(x)
	if err != nil {
		s.o.Publisher.Reject(asError(err).Code, 1)
		return err
	}
	return s.publish(x, r)
}

// lone is a request with one event, in one allocation.
type lone struct {
	publish.Request
	item [1]publish.Item
}

func (s *Server) readEvent(x *exchange) (*publish.Request, error) {
	body, key, err := s.readEvents(x, s.rules.maxPayload+maxEventEnvelope)
	if err != nil {
		return nil, err
	}
	l := &lone{Request: publish.Request{Organization: x.key.Organization, Key: key, Arrived: s.o.Now().Add(-x.keyWait)}}
	l.item[0] = x.scan.parseEvent(body, &s.rules, l.Arrived)
	l.Items = l.item[:]
	if key != "" {
		l.BodyHash = kindEvent.hash(body)
	}
	return &l.Request, nil
}

// postBatch is POST /api/v1/events/batch.
func (s *Server) postBatch(x *exchange) error {
	s.follow(x)
	r, err := s.readBatch(x)
	if err != nil {
		s.o.Publisher.Reject(asError(err).Code, 1)
		return err
	}
	return s.publish(x, r)
}

func (s *Server) readBatch(x *exchange) (*publish.Request, error) {
	body, key, err := s.readEvents(x, maxBatchBody)
	if err != nil {
		return nil, err
	}
	r := &publish.Request{Organization: x.key.Organization, Batch: true, Key: key, Arrived: s.o.Now().Add(-x.keyWait)}
	kind, parse := kindArray, x.scan.parseArray
	if isNDJSON(x.ctx.Request.Header.ContentType()) {
		kind, parse = kindLines, x.scan.parseLines
	}
	items, bad := parse(body, &s.rules, r.Arrived)
	if bad != nil {
		return nil, bad
	}
	r.Items = items
	if key != "" {
		r.BodyHash = kind.hash(body)
	}
	return r, nil
}

// readEvents reads what both ways to publish have in common. What Redis needed
// for the key counts against the publisher's budget, what the caller needed to
// send the body does not: see Request.Arrived.
func (s *Server) readEvents(x *exchange, limit int) (body []byte, key string, err error) {
	if s.policy != "" {
		x.ctx.Response.Header.Set("RateLimit-Policy", s.policy)
	}
	if body, err = s.readBody(x, limit); err != nil {
		return nil, "", err
	}
	key, err = idempotencyKey(&x.ctx.Request.Header)
	return body, key, err
}

func (s *Server) publish(x *exchange, r *publish.Request) error {
	x.events = len(r.Items)
	r.RequestID, r.Origin = x.id, x.origin
	answer, err := s.o.Publisher.Publish(r)
	if r.Allowance.Known {
		x.tellLeft(r.Allowance)
	}
	if err != nil {
		return err
	}
	x.reply(fasthttp.StatusAccepted, answer)
	return nil
}

// idempotencyKey returns the header, "" if there is none.
func idempotencyKey(h *fasthttp.RequestHeader) (string, error) {
	values := h.PeekAll("Idempotency-Key")
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", badRequest("Idempotency-Key", "given more than once")
	}
	key := values[0]
	if len(key) == 0 || len(key) > maxIdempotencyKey {
		return "", badRequest("Idempotency-Key", fmt.Sprintf("must be 1 to %d visible ASCII characters", maxIdempotencyKey))
	}
	for _, c := range key {
		if c < '!' || c > '~' {
			return "", badRequest("Idempotency-Key", fmt.Sprintf("must be 1 to %d visible ASCII characters", maxIdempotencyKey))
		}
	}
	return string(key), nil
}

// badRequest is about a header or a query parameter.
func badRequest(field, rule string) *core.Error {
	e := core.Invalid(field, rule)
	e.Code = core.CodeBadRequest
	return e
}

// isNDJSON reports whether a content type, parameters aside, says one event a
// line.
func isNDJSON(contentType []byte) bool {
	media, _, _ := bytes.Cut(contentType, []byte(";"))
	return bytes.EqualFold(bytes.TrimSpace(media), []byte("application/x-ndjson"))
}

// listEventTypes is GET /api/v1/event-types.
func (s *Server) listEventTypes(x *exchange) error {
	return x.replyJSON(fasthttp.StatusOK, struct {
		Data core.EventTypes `json:"data"`
	}{s.catalogue})
}
