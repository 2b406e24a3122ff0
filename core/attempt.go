package core

import "time"

// Status is where a delivery stands after an attempt.
type Status string

// The statuses.
const (
	StatusDelivered Status = "delivered" // answered 2xx
	StatusRetrying  Status = "retrying"  // failed; another attempt will follow
	StatusFailed    Status = "failed"    // gave up: a dead letter
	StatusDiscarded Status = "discarded" // dropped without a dead letter
)

// Outcome is what an attempt means for its delivery.
type Outcome string

// The outcomes; also the values of a metric label.
const (
	OutcomeDelivered Outcome = "delivered"
	OutcomeRetry     Outcome = "retry"   // failed; try again later
	OutcomeHold      Outcome = "hold"    // not tried; no attempt spent
	OutcomeGone      Outcome = "gone"    // the endpoint wants no more: disable it
	OutcomeDiscard   Outcome = "discard" // nobody is left to deliver to
)

// Outcomes lists every outcome once.
func Outcomes() []Outcome {
	return []Outcome{OutcomeDelivered, OutcomeRetry, OutcomeHold, OutcomeGone, OutcomeDiscard}
}

// Reason says why an attempt failed or a delivery ended without success. The
// set is closed and documented (docs/API.md); it is also a metric label.
type Reason string

// The reasons.
const (
	ReasonTimeout        Reason = "timeout"         // the deadline over DNS, TCP, TLS, request and response passed
	ReasonDNS            Reason = "dns"             // the host name did not resolve
	ReasonConnect        Reason = "connect"         // no TCP connection
	ReasonTLS            Reason = "tls"             // handshake or certificate
	ReasonBlocked        Reason = "blocked_address" // the address may not be reached (SSRF guard)
	ReasonConnectionLost Reason = "connection_lost" // closed or reset before the response was complete
	ReasonBadResponse    Reason = "bad_response"    // not an HTTP/1.1 response
	ReasonRedirect       Reason = "redirect"        // 3xx: never followed
	ReasonStatus4xx      Reason = "status_4xx"
	ReasonStatus410      Reason = "status_410"    // Gone: the endpoint is disabled
	ReasonDisableAsked   Reason = "disable_asked" // the response said `webhook-delivery: disable`: the endpoint is disabled
	ReasonStatus429      Reason = "status_429"
	ReasonStatus5xx      Reason = "status_5xx"
	ReasonStatusOther    Reason = "status_other" // not between 200 and 599
	ReasonDisabled       Reason = "disabled"     // the endpoint was disabled between accept and send
	ReasonDeleted        Reason = "deleted"      // the endpoint was deleted between accept and send
	ReasonSigningKey     Reason = "signing_key"  // the master key never yielded the endpoint's secret
	ReasonExpired        Reason = "expired"      // the time to deliver it has passed
	ReasonOverflow       Reason = "overflow"     // the endpoint's backlog was full, and this was its oldest delivery
	ReasonFailing        Reason = "failing"      // the endpoint did nothing but fail for too long: it is disabled
)

// Reasons lists every reason once.
func Reasons() []Reason {
	return []Reason{
		ReasonTimeout, ReasonDNS, ReasonConnect, ReasonTLS, ReasonBlocked, ReasonConnectionLost,
		ReasonBadResponse, ReasonRedirect, ReasonStatus4xx, ReasonStatus410, ReasonDisableAsked, ReasonStatus429,
		ReasonStatus5xx, ReasonStatusOther, ReasonDisabled, ReasonDeleted, ReasonSigningKey, ReasonExpired, ReasonOverflow, ReasonFailing,
	}
}

// Attempt is one row of an endpoint's log: one HTTP request of a delivery, or
// the end of a delivery that made none. Times have millisecond precision.
type Attempt struct {
	Delivery       string // id; (Delivery, Number, Status) is unique, but for an attempt that was made again after a crash
	Event          string // event id
	EventType      string
	Endpoint       string // id; which log the row belongs to
	Number         int    // from 1; the attempts made so far when none was made now
	Status         Status
	ResponseStatus int    // HTTP status; 0: no response
	Reason         Reason // "" when delivered
	StartedAt      time.Time
	Latency        time.Duration // from start to the end of the response or the failure
	NextAt         time.Time     // when the next attempt is due; zero: none
}

// EndedAt returns when the attempt was over.
func (a *Attempt) EndedAt() time.Time { return a.StartedAt.Add(a.Latency) }

// Record is what a sender writes when deliveries of bundles, or of one backlog, are
// settled.
type Record struct {
	Attempts []Attempt
	Kept     []Delivery // that were delivered and are to stay for replays, Attempts counting the last one
	Marks    []Mark     // one for each bundle
	Drained  Drained    // zero: they came from a bundle
	Repeated bool       // an earlier write of the same rows may have succeeded: write each (Delivery, Number, Status) once
}

// DeadLetter is a delivery that gave up.
type DeadLetter struct {
	Delivery Delivery
	Reason   Reason
	At       time.Time
}
