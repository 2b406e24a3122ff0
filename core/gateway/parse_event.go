package gateway

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
)

// The members of an event.
const (
	memberType = 1 << iota
	memberID
	memberTimestamp
	memberData
	memberMaxAge
)

// eventRules are what an event is judged by.
type eventRules struct {
	types      map[string]string // the catalogue
	maxPayload int               // bytes of data
}

// rawEvent is an event as it was sent: parts of the body.
type rawEvent struct {
	seen                   int // members that are there
	typ, id, at, data, age token
	errs                   fieldErrors
	start, end             int // of the event itself
	deepAt                 int // offset of the first bracket that is too deep, or -1
}

// event reads one event, which begins at the next byte. ok is false on a syntax
// error; whatever else is wrong waits in the result, because syntax is judged
// first and over the whole document.
func (s *scanner) event() (e rawEvent, ok bool) {
	s.space()
	s.tooDeep = -1
	e.start = s.pos
	s.enter()
	for first := true; ; first = false {
		name, value, more, ok := s.member(first, 1)
		if !ok {
			return e, false
		}
		if !more {
			break
		}
		s.note(&e, name, value)
	}
	e.end, e.deepAt = s.pos, s.tooDeep
	return e, true
}

// note files a member under its name.
func (s *scanner) note(e *rawEvent, name, value token) {
	n := unquote(s.raw(name))
	var member int
	var slot *token
	switch string(n) {
	case "type":
		member, slot = memberType, &e.typ
	case "id":
		member, slot = memberID, &e.id
	case "timestamp":
		member, slot = memberTimestamp, &e.at
	case "data":
		member, slot = memberData, &e.data
	case "max_age":
		member, slot = memberMaxAge, &e.age
	default:
		e.errs.add(shownName(n), ruleUnknown)
		return
	}
	if e.seen&member != 0 {
		e.errs.add(string(n), ruleRepeated)
		return
	}
	e.seen |= member
	*slot = value
}

// item judges a raw event and copies what outlives the request. The bytes of
// data are taken as they are.
func (s *scanner) item(e *rawEvent, rules *eventRules, acceptedAt time.Time) publish.Item {
	if err := utf8Error(s.data[e.start:e.end], e.start); err != nil {
		return publish.Item{Err: err}
	}
	if e.deepAt >= 0 {
		return publish.Item{Err: deepError(e.deepAt)}
	}
	data := s.raw(e.data)
	if len(data) > rules.maxPayload {
		return publish.Item{Err: &core.Error{
			Code: core.CodeTooLarge, Detail: "data is above the limit of " + bytesText(rules.maxPayload),
		}}
	}
	eventType := s.eventType(e, rules)
	id := s.eventID(e)
	at := s.timestamp(e)
	age := s.maxAge(e)
	if e.seen&memberData == 0 {
		e.errs.add("data", ruleRequired)
	}
	if err := e.errs.err(); err != nil {
		return publish.Item{Err: err}
	}
	return publish.Item{ID: id, Type: eventType, MaxAge: age, Body: publish.Freeze(eventType, at, data, acceptedAt)}
}

// eventType returns the catalogue's own string.
func (s *scanner) eventType(e *rawEvent, rules *eventRules) string {
	if e.seen&memberType == 0 {
		e.errs.add("type", ruleRequired)
		return ""
	}
	raw := s.raw(e.typ)
	if !isString(raw) {
		e.errs.add("type", ruleString)
		return ""
	}
	given := unquote(raw)
	t, ok := rules.types[string(given)]
	switch {
	case ok:
	case core.SystemEventType(string(given)):
		e.errs.add("type", "only Sealpost itself publishes events of a type that begins with "+core.SystemPrefix)
	default:
		e.errs.add("type", "unknown event type; GET /api/v1/event-types lists all")
	}
	return t
}

// eventID returns the producer's id, "" if there is none.
func (s *scanner) eventID(e *rawEvent) string {
	if e.seen&memberID == 0 {
		return ""
	}
	raw := s.raw(e.id)
	if !isString(raw) {
		e.errs.add("id", ruleString)
		return ""
	}
	id := string(unquote(raw))
	if !core.ValidEventID(id) {
		e.errs.add("id", fmt.Sprintf("must be 1 to %d of A-Z a-z 0-9 _ -", core.MaxEventIDLength))
	}
	return id
}

// timestamp returns the raw string that was given, nil if there is none.
func (s *scanner) timestamp(e *rawEvent) []byte {
	if e.seen&memberTimestamp == 0 {
		return nil
	}
	raw := s.raw(e.at)
	if !isString(raw) {
		e.errs.add("timestamp", ruleString)
		return nil
	}
	var t time.Time
	if err := t.UnmarshalText(unquote(raw)); err != nil {
		e.errs.add("timestamp", "must be an RFC 3339 time")
	}
	return raw
}

// maxAge returns how old the event may grow, 0 if that is not said.
func (s *scanner) maxAge(e *rawEvent) time.Duration {
	if e.seen&memberMaxAge == 0 {
		return 0
	}
	raw := s.raw(e.age)
	if !isString(raw) {
		e.errs.add("max_age", ruleString)
		return 0
	}
	age, ok := core.ParseMaxAge(string(unquote(raw)))
	if !ok {
		e.errs.add("max_age", core.RuleMaxAge)
	}
	return age
}

// parseEvent reads a body that is one event.
func (s *scanner) parseEvent(body []byte, rules *eventRules, acceptedAt time.Time) publish.Item {
	s.reset(body)
	if s.peek() != '{' {
		return publish.Item{Err: firstError(utf8Error(body, 0), s.notAn("object"))}
	}
	e, ok := s.event()
	if !ok || !s.end() {
		return publish.Item{Err: firstError(utf8Error(body, 0), s.syntax())}
	}
	return s.identify(s.item(&e, rules, acceptedAt), &e)
}

// identify adds the hash by which a repetition of an event with an id is known:
// that of the event's own bytes, so that it is the same alone and in a batch.
func (s *scanner) identify(item publish.Item, e *rawEvent) publish.Item {
	if item.ID != "" {
		item.Hash = sha256.Sum256(s.data[e.start:e.end])
	}
	return item
}

func firstError(errs ...*core.Error) *core.Error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
