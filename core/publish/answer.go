package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/core"
)

// What the caller of a request that could not be confirmed is told.
const (
	detailUnconfirmed = "not confirmed; retry with the same Idempotency-Key or id"
	detailLate        = "not confirmed in time; retry with the same Idempotency-Key or id"
)

// claimRetryAfter is when to come back to a claim that another request holds:
// long before its lease ends, because it usually needs milliseconds.
const claimRetryAfter = time.Second

// asUnavailable returns err's own *core.Error if it is one of CodeUnavailable,
// else a new one that carries err as its cause.
func asUnavailable(detail string, err error) *core.Error {
	var e *core.Error
	if errors.As(err, &e) && e.Code == core.CodeUnavailable {
		return e
	}
	return core.Unavailable(detail, err)
}

// tooWide is the answer to a request that makes too many deliveries.
func tooWide(deliveries, limit int) *core.Error {
	return &core.Error{
		Code: core.CodeTooLarge, Detail: fmt.Sprintf("the events make %d deliveries, the limit is %d a request: send fewer at a time", deliveries, limit),
	}
}

// claimError returns what forbids to go on under a claim, or nil.
func claimError(s *core.ReservationState) *core.Error {
	switch s.Kind {
	case core.ReservationGranted, core.ReservationTakenOver, core.ReservationAnswered:
		return nil
	case core.ReservationPending:
		after := claimRetryAfter
		if s.RetryAfter > 0 {
			after = min(after, s.RetryAfter)
		}
		return &core.Error{
			Code: core.CodeInProgress, Detail: "the first request with this idempotency key is still being accepted", RetryAfter: after,
		}
	case core.ReservationMismatch:
		return &core.Error{
			Code: core.CodeIdempotencyMismatch, Detail: "this idempotency key was used before with another body",
		}
	default:
		return &core.Error{Code: core.CodeInternal, Detail: "internal error"}
	}
}

// indexed returns the id of a batch's event i, which has none of its own.
func indexed(base string, i int) string {
	id := make([]byte, 0, len(base)+5)
	id = append(id, base...)
	id = append(id, '_')
	return string(strconv.AppendInt(id, int64(i), 10))
}

// appendItem appends the answer to one event. Valid event ids need no escaping.
func appendItem(dst []byte, out *outcome) []byte {
	if out.stored != nil {
		return append(dst, out.stored...)
	}
	if out.first != nil {
		out = out.first
	}
	dst = append(dst, `{"id":"`...)
	dst = append(dst, out.event.ID...)
	dst = append(dst, `","deliveries":`...)
	dst = strconv.AppendInt(dst, int64(out.deliveries), 10)
	return append(dst, '}')
}

// appendBatch appends the answer to a batch.
func appendBatch(dst []byte, outcomes []outcome) []byte {
	const perItem = len(`{"id":"","deliveries":1000},`) + core.MaxEventIDLength
	if dst == nil {
		dst = make([]byte, 0, len(`{"data":[]}`)+perItem*len(outcomes))
	}
	dst = append(dst, `{"data":[`...)
	for i := range outcomes {
		if i > 0 {
			dst = append(dst, ',')
		}
		if err := outcomes[i].err; err != nil {
			dst = appendItemError(dst, err)
		} else {
			dst = appendItem(dst, &outcomes[i])
		}
	}
	return append(dst, `]}`...)
}

// itemError is the wire form of a bad event within a batch.
type itemError struct {
	Code       core.Code         `json:"code"`
	Detail     string            `json:"detail"`
	Errors     []core.FieldError `json:"errors,omitempty"`
	RetryAfter int64             `json:"retry_after,omitempty"` // seconds
}

func appendItemError(dst []byte, e *core.Error) []byte {
	wire, err := json.Marshal(struct {
		Error itemError `json:"error"`
	}{itemError{Code: e.Code, Detail: e.Detail, Errors: e.Fields, RetryAfter: seconds(e.RetryAfter)}})
	if err != nil {
		return append(dst, `{"error":{"code":"internal","detail":"internal error"}}`...)
	}
	return append(dst, wire...)
}

// seconds rounds d up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
