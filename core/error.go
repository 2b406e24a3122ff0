package core

import (
	"errors"
	"time"
)

// Code classifies an Error for the API caller. The set is closed and
// documented (docs/API.md); core/gateway maps every code to an HTTP status, and
// a test fails when one is missing.
type Code string

// The codes, in the order in which a request is judged.
const (
	CodeNotFound            Code = "not_found"            // unknown path, or no such resource in this organization
	CodeMethodNotAllowed    Code = "method_not_allowed"   // the path exists, not with this method
	CodeUnauthorized        Code = "unauthorized"         // no key, or not a valid one
	CodeMissingScope        Code = "missing_scope"        // the key is valid but may not do this
	CodeTooLarge            Code = "too_large"            // body, payload or batch above its limit
	CodeHeaderTooLarge      Code = "header_too_large"     // request head above its limit
	CodeBadRequest          Code = "bad_request"          // not an HTTP request, or a bad limit, cursor or header
	CodeInvalidJSON         Code = "invalid_json"         // the body is not the JSON it has to be
	CodeInvalid             Code = "invalid"              // well-formed, but a field breaks a rule
	CodeIdempotencyMismatch Code = "idempotency_mismatch" // the same idempotency key came with another body
	CodeInProgress          Code = "in_progress"          // the first request with this idempotency key is still running
	CodeConflict            Code = "conflict"             // the change contradicts the state of the resource
	CodePayloadExpired      Code = "payload_expired"      // what was to be sent again is not kept any more
	CodeRateLimited         Code = "rate_limited"         // the organization has asked too often: its publishing quota is used up, or it tests endpoints too fast
	CodeTimeout             Code = "request_timeout"      // the request did not arrive in time
	CodeUnavailable         Code = "unavailable"          // not confirmed: retry with the same idempotency key
	CodeInternal            Code = "internal"             // our mistake
)

// Codes lists every code once.
func Codes() []Code {
	return []Code{
		CodeNotFound, CodeMethodNotAllowed, CodeUnauthorized, CodeMissingScope, CodeTooLarge,
		CodeHeaderTooLarge, CodeBadRequest, CodeInvalidJSON, CodeInvalid, CodeIdempotencyMismatch,
		CodeInProgress, CodeConflict, CodePayloadExpired, CodeRateLimited, CodeTimeout, CodeUnavailable, CodeInternal,
	}
}

// FieldError names a field of a request body and the rule that it broke.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

// Error is a failure that has a meaning to the API caller. Detail and Fields
// are shown to that caller; Err is for operators and never leaves the process.
type Error struct {
	Code       Code
	Detail     string
	Fields     []FieldError
	RetryAfter time.Duration // 0: no Retry-After header; else rounded up to whole seconds
	Err        error         // cause; may be nil
}

// Error returns the detail and the cause, for logs.
func (e *Error) Error() string {
	if e.Err != nil {
		return string(e.Code) + ": " + e.Detail + ": " + e.Err.Error()
	}
	return string(e.Code) + ": " + e.Detail
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Invalid returns an Error with CodeInvalid about one field.
func Invalid(field, detail string) *Error {
	return &Error{Code: CodeInvalid, Detail: field + ": " + detail, Fields: []FieldError{{Field: field, Detail: detail}}}
}

// NotFound returns an Error with CodeNotFound. The same words serve for what
// never existed and for what belongs to another organization.
func NotFound(what string) *Error {
	return &Error{Code: CodeNotFound, Detail: "no such " + what}
}

// Unavailable returns an Error with CodeUnavailable that asks the caller to
// come back after a second, with err as its cause.
func Unavailable(detail string, err error) *Error {
	return &Error{Code: CodeUnavailable, Detail: detail, RetryAfter: time.Second, Err: err}
}

// ErrNotStored is in the chain of an error that is certain: nothing of what was to
// be stored is in Redis. Any other error of a write means "not confirmed".
var ErrNotStored = errors.New("nothing was stored")

// CodeOf returns the code of the first *Error in err's chain, CodeInternal if
// there is none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
