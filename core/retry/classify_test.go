package retry_test

import (
	"slices"
	"testing"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/retry"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	tests := []struct {
		from, to int
		outcome  core.Outcome
		reason   core.Reason
	}{
		{-1, 199, core.OutcomeRetry, core.ReasonStatusOther},
		{200, 299, core.OutcomeDelivered, ""},
		{300, 399, core.OutcomeRetry, core.ReasonRedirect},
		{400, 409, core.OutcomeRetry, core.ReasonStatus4xx},
		{410, 410, core.OutcomeGone, core.ReasonStatus410},
		{411, 428, core.OutcomeRetry, core.ReasonStatus4xx},
		{429, 429, core.OutcomeRetry, core.ReasonStatus429},
		{430, 499, core.OutcomeRetry, core.ReasonStatus4xx},
		{500, 599, core.OutcomeRetry, core.ReasonStatus5xx},
		{600, 1000, core.OutcomeRetry, core.ReasonStatusOther},
	}
	for _, tt := range tests {
		for status := tt.from; status <= tt.to; status++ {
			if o, r := retry.Classify(status); o != tt.outcome || r != tt.reason {
				t.Errorf("Classify(%d) = %s, %q; want %s, %q", status, o, r, tt.outcome, tt.reason)
			}
		}
	}
}

// TestOutcomeOf names an outcome for every reason there is, so that a new reason
// has to be thought about here.
func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	want := map[core.Reason]core.Outcome{
		core.ReasonTimeout:        core.OutcomeRetry,
		core.ReasonDNS:            core.OutcomeRetry,
		core.ReasonConnect:        core.OutcomeRetry,
		core.ReasonTLS:            core.OutcomeRetry,
		core.ReasonBlocked:        core.OutcomeRetry,
		core.ReasonConnectionLost: core.OutcomeRetry,
		core.ReasonBadResponse:    core.OutcomeRetry,
		core.ReasonRedirect:       core.OutcomeRetry,
		core.ReasonStatus4xx:      core.OutcomeRetry,
		core.ReasonStatus410:      core.OutcomeGone,
		core.ReasonDisableAsked:   core.OutcomeGone,
		core.ReasonStatus429:      core.OutcomeRetry,
		core.ReasonStatus5xx:      core.OutcomeRetry,
		core.ReasonStatusOther:    core.OutcomeRetry,
		core.ReasonDisabled:       core.OutcomeDiscard,
		core.ReasonDeleted:        core.OutcomeDiscard,
		core.ReasonSigningKey:     core.OutcomeHold,
		core.ReasonExpired:        core.OutcomeDiscard,
		core.ReasonOverflow:       core.OutcomeDiscard,
		core.ReasonFailing:        core.OutcomeDiscard,
		"":                        core.OutcomeDelivered,
	}
	for _, reason := range append(core.Reasons(), "") {
		o, ok := want[reason]
		if !ok {
			t.Errorf("no outcome is named for reason %q", reason)
			continue
		}
		if got := retry.OutcomeOf(reason); got != o {
			t.Errorf("OutcomeOf(%q) = %s, want %s", reason, got, o)
		}
	}
}

// TestClassifyAgreesWithOutcomeOf: the reason alone must lead to the same
// outcome as the status did.
func TestClassifyAgreesWithOutcomeOf(t *testing.T) {
	t.Parallel()
	for status := range 700 {
		o, r := retry.Classify(status)
		if got := retry.OutcomeOf(r); got != o {
			t.Errorf("status %d: Classify says %s, OutcomeOf(%q) says %s", status, o, r, got)
		}
		if r != "" && !slices.Contains(core.Reasons(), r) {
			t.Errorf("status %d: reason %q is not in the closed set", status, r)
		}
	}
}
