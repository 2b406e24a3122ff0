package gateway

import (
	"bytes"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
)

// parseArray reads a body that is an array of events. A broken array is an
// error; a bad event is an item of its own.
func (s *scanner) parseArray(body []byte, rules *eventRules, acceptedAt time.Time) ([]publish.Item, *core.Error) {
	s.reset(body)
	if s.peek() != '[' {
		return nil, firstError(utf8Error(body, 0), s.notABatch())
	}
	s.enter()
	var items []publish.Item
	for first := true; ; first = false {
		more, ok := s.element(first)
		if !ok {
			return nil, s.syntax()
		}
		if !more {
			break
		}
		if len(items) == maxBatchEvents {
			return nil, tooManyEvents()
		}
		item, ok := s.arrayItem(rules, acceptedAt)
		if !ok {
			return nil, s.syntax()
		}
		items = append(items, item)
	}
	if !s.end() {
		return nil, s.syntax()
	}
	return items, nil
}

// notABatch is notAn for a batch. One event a line is a likely mistake.
func (s *scanner) notABatch() *core.Error {
	object := s.peek() == '{'
	err := s.notAn("array")
	if object {
		err.Detail += "; events one a line need Content-Type: application/x-ndjson"
	}
	return err
}

// arrayItem reads one element; ok is false on a syntax error.
func (s *scanner) arrayItem(rules *eventRules, acceptedAt time.Time) (item publish.Item, ok bool) {
	if s.peek() != '{' {
		if _, ok := s.value(0); !ok {
			return item, false
		}
		return publish.Item{Err: &core.Error{Code: core.CodeInvalid, Detail: "must be a JSON object"}}, true
	}
	e, ok := s.event()
	if !ok {
		return item, false
	}
	return s.identify(s.item(&e, rules, acceptedAt), &e), true
}

// parseLines reads a body with one event a line (NDJSON). Blank lines are
// skipped; a bad line is an item of its own.
func (s *scanner) parseLines(body []byte, rules *eventRules, acceptedAt time.Time) ([]publish.Item, *core.Error) {
	var items []publish.Item
	for line := range bytes.Lines(body) {
		if line = bytes.Trim(line, jsonSpace); len(line) == 0 {
			continue
		}
		if len(items) == maxBatchEvents {
			return nil, tooManyEvents()
		}
		items = append(items, s.parseEvent(line, rules, acceptedAt))
	}
	return items, nil
}

func tooManyEvents() *core.Error {
	return &core.Error{Code: core.CodeTooLarge, Detail: fmt.Sprintf("a batch is limited to %d events", maxBatchEvents)}
}
