package sender

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/core"
)

// announcer tells an organization what became of its endpoints, in system events
// to those endpoints that subscribe to them.
type announcer interface {
	// Disabled tells that e was disabled and why.
	Disabled(ctx context.Context, e *core.Endpoint, reason core.Reason) error
	// Failing warns that e has done nothing but fail for percent of the time after
	// which it is disabled.
	Failing(ctx context.Context, e *core.Endpoint, since, disableAt time.Time, percent int) error
}

// noteFindings stores what the verdicts say about how long their endpoints have
// been failing. What fails here is found again by the next attempts.
func (s *Sender) noteFindings(ctx context.Context, verdicts []*verdict) {
	var recovered []core.EndpointRef
	for _, v := range verdicts {
		if v.recovered {
			recovered = append(recovered, v.delivery.Ref())
			v.recovered = false
		}
		if v.warning > 0 {
			s.warn(ctx, v)
			v.warning = 0
		}
	}
	if len(recovered) == 0 {
		return
	}
	if err := s.store.NoteRecovered(ctx, recovered); err != nil {
		s.logger.Warn("could not note that endpoints work again", "endpoints", len(recovered), "error", err)
	}
}

// warn announces, once over all senders, that an endpoint is going to be disabled.
func (s *Sender) warn(ctx context.Context, v *verdict) {
	ref := v.delivery.Ref()
	raised, err := s.store.RaiseWarning(ctx, ref, v.warning)
	if err != nil {
		s.logger.Warn("could not note a warning", "endpoint", ref.ID, "error", err)
		return
	}
	rec, err := s.records.get(ctx, ref)
	if !raised || err != nil || rec.endpoint == nil {
		return
	}
	since := rec.endpoint.Failing.Since
	s.logger.Warn("endpoint does nothing but fail and will be disabled", "organization", ref.Organization, "endpoint", ref.ID,
		"failing_since", since, "disabled_at", since.Add(s.disableAfter), "percent", v.warning)
	s.metrics.warnings.Inc()
	s.announced(s.announcer.Failing(ctx, rec.endpoint, since, since.Add(s.disableAfter), v.warning))
}

// announced handles the error of an announcement: it is not repeated.
func (s *Sender) announced(err error) {
	if err != nil {
		s.metrics.unannounced.Inc()
		s.logger.Warn("a change of an endpoint could not be announced", "error", err)
	}
}
