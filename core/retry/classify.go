package retry

import "github.com/sealpost/sealpost/core"

// Classify returns what a response with the HTTP status means for its delivery,
// and why it failed ("" when it did not). Standard Webhooks 1.0.0, "Delivery
// success and failure": 2xx is success, 410 asks to be left alone, a redirect is
// not followed, the rest is tried again.
func Classify(status int) (core.Outcome, core.Reason) {
	switch {
	case status >= 200 && status <= 299:
		return core.OutcomeDelivered, ""
	case status >= 300 && status <= 399:
		return core.OutcomeRetry, core.ReasonRedirect
	case status == 410:
		return core.OutcomeGone, core.ReasonStatus410
	case status == 429:
		return core.OutcomeRetry, core.ReasonStatus429
	case status >= 400 && status <= 499:
		return core.OutcomeRetry, core.ReasonStatus4xx
	case status >= 500 && status <= 599:
		return core.OutcomeRetry, core.ReasonStatus5xx
	default:
		return core.OutcomeRetry, core.ReasonStatusOther
	}
}

// OutcomeOf returns what reason means for a delivery. Failures on the way to the
// endpoint are tried again; a wrong master key holds the delivery, since it says
// nothing about the endpoint; an endpoint that was deleted, disabled or failing for too long, a delivery
// whose time is over, and one that its backlog had no room for, get no further
// attempt. "" is success.
func OutcomeOf(reason core.Reason) core.Outcome {
	switch reason {
	case "":
		return core.OutcomeDelivered
	case core.ReasonStatus410, core.ReasonDisableAsked:
		return core.OutcomeGone
	case core.ReasonSigningKey:
		return core.OutcomeHold
	case core.ReasonDeleted, core.ReasonDisabled, core.ReasonExpired, core.ReasonOverflow, core.ReasonFailing:
		return core.OutcomeDiscard
	default:
		return core.OutcomeRetry
	}
}
