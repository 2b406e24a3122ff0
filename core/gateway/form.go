package gateway

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealpost/sealpost/core"
)

const (
	// maxFieldErrors bounds the errors that one answer lists.
	maxFieldErrors = 16
	// maxFieldName bounds the part of an unknown field's name that is repeated
	// to the caller, in bytes.
	maxFieldName = 64
)

// What a caller is told about fields.
const (
	ruleRequired = "is required"
	ruleUnknown  = "unknown field"
	ruleRepeated = "given more than once"
	ruleString   = "must be a string"
)

// fieldErrors gathers what is wrong with the fields of a body.
type fieldErrors []core.FieldError

func (e *fieldErrors) add(field, rule string) {
	if len(*e) < maxFieldErrors {
		*e = append(*e, core.FieldError{Field: field, Detail: rule})
	}
}

// merge adds the fields of a CodeInvalid error; any other error is returned.
func (e *fieldErrors) merge(err error) error {
	if err == nil {
		return nil
	}
	if ce := asError(err); ce.Code == core.CodeInvalid {
		for _, f := range ce.Fields {
			e.add(f.Field, f.Detail)
		}
		return nil
	}
	return err
}

// err returns nil or one CodeInvalid error about all fields.
func (e fieldErrors) err() *core.Error {
	if len(e) == 0 {
		return nil
	}
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Field + ": " + f.Detail
	}
	return &core.Error{Code: core.CodeInvalid, Detail: strings.Join(parts, "; "), Fields: e}
}

// shownName returns a field's name in a form that may be repeated to the caller.
func shownName(name []byte) string {
	if len(name) <= maxFieldName {
		return strings.ToValidUTF8(string(name), "\uFFFD")
	}
	cut := maxFieldName
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return strings.ToValidUTF8(string(name[:cut]), "\uFFFD") + "…"
}

// form is a management body: one JSON object, whose members the handlers ask
// for by name.
type form struct {
	scan   *scanner
	values map[string]token
	errs   fieldErrors
}

// parseForm reads body as an object with no other members than known. The error
// is about syntax (CodeInvalidJSON), or CodeInvalid if the body is no object;
// what is wrong with members shows in form.err.
func (x *exchange) parseForm(body []byte, known ...string) (*form, error) {
	if err := utf8Error(body, 0); err != nil {
		return nil, err
	}
	s := &x.scan
	s.reset(body)
	f := &form{scan: s, values: make(map[string]token, len(known))}
	if s.peek() != '{' {
		return nil, s.notAn("object")
	}
	s.enter()
	for first := true; ; first = false {
		name, value, more, ok := s.member(first, 1)
		if !ok {
			return nil, s.syntax()
		}
		if !more {
			break
		}
		switch n := string(unquote(s.raw(name))); {
		case !slices.Contains(known, n):
			f.errs.add(shownName([]byte(n)), ruleUnknown)
		case f.has(n):
			f.errs.add(n, ruleRepeated)
		default:
			f.values[n] = value
		}
	}
	if !s.end() {
		return nil, s.syntax()
	}
	if s.tooDeep >= 0 {
		return nil, deepError(s.tooDeep)
	}
	return f, nil
}

// parseNothing judges an optional body that has nothing to say.
func (x *exchange) parseNothing(body []byte) error {
	if len(bytes.Trim(body, jsonSpace)) == 0 {
		return nil
	}
	f, err := x.parseForm(body)
	if err != nil {
		return err
	}
	return f.err()
}

func (f *form) has(name string) bool {
	_, ok := f.values[name]
	return ok
}

// require adds an error for each of names that is missing.
func (f *form) require(names ...string) {
	for _, name := range names {
		if !f.has(name) {
			f.errs.add(name, ruleRequired)
		}
	}
}

// text returns a string member; ok is false if there is none, or it is no
// string.
func (f *form) text(name string) (value string, ok bool) {
	t, ok := f.values[name]
	if !ok {
		return "", false
	}
	raw := f.scan.raw(t)
	if !isString(raw) {
		f.errs.add(name, ruleString)
		return "", false
	}
	return string(unquote(raw)), true
}

// flag returns a boolean member.
func (f *form) flag(name string) (value, ok bool) {
	t, ok := f.values[name]
	if !ok {
		return false, false
	}
	switch string(f.scan.raw(t)) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	f.errs.add(name, "must be true or false")
	return false, false
}

// null reports whether a member is there and null.
func (f *form) null(name string) bool {
	t, ok := f.values[name]
	return ok && string(f.scan.raw(t)) == "null"
}

// number returns a member that is a number between low and high, or null, which
// is 0. rule says so to the caller.
func (f *form) number(name string, low, high float64, rule string) (value float64, ok bool) {
	t, ok := f.values[name]
	if !ok || f.null(name) {
		return 0, ok
	}
	raw := f.scan.raw(t)
	value, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || isString(raw) || !(value >= low && value <= high) {
		f.errs.add(name, rule)
		return 0, false
	}
	return value, true
}

// choice returns a member that is one of options, or null, which is the first.
func (f *form) choice(name string, options ...string) (value string, ok bool) {
	t, ok := f.values[name]
	if !ok || f.null(name) {
		return options[0], ok
	}
	raw := f.scan.raw(t)
	if isString(raw) {
		if value = string(unquote(raw)); slices.Contains(options, value) {
			return value, true
		}
	}
	f.errs.add(name, fmt.Sprintf(`must be "%s", or null`, strings.Join(options, `" or "`)))
	return "", false
}

// texts returns a member that is an array of strings.
func (f *form) texts(name string) (values []string, ok bool) {
	t, ok := f.values[name]
	if !ok {
		return nil, false
	}
	if f.scan.data[t.start] != '[' {
		f.errs.add(name, "must be an array of strings")
		return nil, false
	}
	// A second walk over what has been found correct: nothing can fail but types.
	s := scanner{data: f.scan.data[:t.end], pos: t.start, tooDeep: -1}
	s.enter()
	values = []string{}
	for first := true; ; first = false {
		more, walks := s.element(first)
		if !more || !walks {
			return values, walks && ok
		}
		v, walks := s.value(0)
		if raw := s.raw(v); walks && isString(raw) {
			values = append(values, string(unquote(raw)))
		} else {
			f.errs.add(fmt.Sprintf("%s[%d]", name, len(values)), ruleString)
			return nil, false
		}
	}
}

// instant returns a member that is a time.
func (f *form) instant(name string) (at time.Time, ok bool) {
	text, ok := f.text(name)
	if !ok {
		return time.Time{}, false
	}
	if err := at.UnmarshalText([]byte(text)); err != nil {
		f.errs.add(name, "must be an RFC 3339 time")
		return time.Time{}, false
	}
	return at.UTC(), true
}

// err returns what is wrong with the members, or nil.
func (f *form) err() error {
	if err := f.errs.err(); err != nil {
		return err
	}
	return nil
}

// syntax returns the scanner's problem.
func (s *scanner) syntax() *core.Error {
	return &core.Error{Code: core.CodeInvalidJSON, Detail: fmt.Sprintf("malformed JSON at offset %d: %s", s.at, s.problem)}
}

// notAn returns the error for a document that is not of the expected kind:
// CodeInvalidJSON if it is no JSON at all.
func (s *scanner) notAn(kind string) *core.Error {
	if _, ok := s.value(0); !ok || !s.end() {
		return s.syntax()
	}
	return &core.Error{Code: core.CodeInvalid, Detail: "must be a JSON " + kind}
}

func deepError(offset int) *core.Error {
	return &core.Error{
		Code: core.CodeInvalidJSON, Detail: fmt.Sprintf("JSON nested deeper than %d levels at offset %d", maxDepth, offset),
	}
}

// utf8Error returns CodeInvalidJSON unless data, which begins at offset base of
// the body, is UTF-8.
func utf8Error(data []byte, base int) *core.Error {
	at := invalidUTF8(data)
	if at < 0 {
		return nil
	}
	return &core.Error{Code: core.CodeInvalidJSON, Detail: fmt.Sprintf("malformed JSON at offset %d: not valid UTF-8", base+at)}
}
