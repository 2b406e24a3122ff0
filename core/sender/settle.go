package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sealpost/sealpost/core"
)

const (
	// settlePatience is how long results are offered to a Redis that fails before
	// the task is left to come back, which repeats their requests.
	settlePatience = time.Minute

	// lastPatience is the same for the last offer of a run that failed before.
	lastPatience = 5 * time.Second

	// settleCall bounds one round of writes: the steps, and then the records, which
	// may lie on another Redis node and must not wait for the steps' time-out.
	settleCall = 5 * time.Second
)

// errUnchanged says that an endpoint need not be disabled any more.
var errUnchanged = errors.New("endpoint is disabled or moved already")

// books are where the results of one bundle, or of one backlog, are kept.
type books struct {
	s        *Sender
	detached context.Context // results are stored whatever became of the lease
	name     string          // for logs
	source   source
	write    func(context.Context, core.Record) error
}

// source is where the deliveries came from.
type source interface {
	// note adds to rec that the deliveries of ready are settled, when done others
	// are already. With nothing to note it changes nothing.
	note(rec *core.Record, ready []*verdict, done int)
}

// settle stores the verdicts, when done deliveries of the same bundle are settled
// already, and repeats what fails until it is stored or patience has passed. It
// does not obey the lease: what was sent has to be noted, and noting it twice
// does no harm. Afterwards each verdict knows whether it is settled.
//
// The order makes a crash at any line a repetition and never a loss: first what
// the delivery becomes (a retry task, a dead letter, a fresh bundle) is
// confirmed, then its row is written, and its payload if that is kept, then its mark.
func (k *books) settle(verdicts []*verdict, done int, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(k.detached, patience)
	defer cancel()
	for wait := newBackoff(k.s.rand); ; {
		n, err := k.settleOnce(ctx, verdicts, done)
		if err == nil {
			return nil
		}
		done += n
		k.s.metrics.settleRepeats.Inc()
		k.s.logger.Warn("results of attempts could not be stored", "of", k.name, "error", err)
		if !wait.sleep(ctx) {
			return fmt.Errorf("store results of attempts: %w", err)
		}
	}
}

// settleOnce stores what it can of the verdicts that are not settled yet and
// returns how many it settled.
func (k *books) settleOnce(ctx context.Context, verdicts []*verdict, done int) (int, error) {
	confirmErr := k.s.confirm(ctx, verdicts)
	ready := make([]*verdict, 0, len(verdicts))
	for _, v := range verdicts {
		if v.confirmed && !v.settled {
			ready = append(ready, v)
		}
	}
	if len(ready) == 0 {
		return 0, confirmErr
	}
	if err := k.record(ctx, ready, done); err != nil {
		return 0, errors.Join(confirmErr, err)
	}
	for _, v := range ready {
		v.settled = true
		k.s.metrics.ended(v)
		k.s.logEnd(v)
	}
	return len(ready), confirmErr
}

// record writes rows and notes of confirmed verdicts, and what is to be kept of them.
func (k *books) record(ctx context.Context, ready []*verdict, done int) error {
	rec := core.Record{Attempts: make([]core.Attempt, 0, len(ready))}
	for _, v := range ready {
		if v.hasRow {
			rec.Attempts = append(rec.Attempts, v.row)
			if k.s.keepDelivered && v.status == core.StatusDelivered {
				rec.Kept = append(rec.Kept, v.delivery)
			}
		}
		rec.Repeated = rec.Repeated || v.written
		v.written = true
	}
	k.source.note(&rec, ready, done)
	if len(rec.Attempts) == 0 && len(rec.Marks) == 0 && len(rec.Drained.Entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleCall)
	defer cancel()
	if err := k.write(ctx, rec); err != nil {
		return fmt.Errorf("record attempts: %w", err)
	}
	return nil
}

// note implements source: it marks deliveries of the bundle.
func (r *run) note(rec *core.Record, ready []*verdict, done int) {
	if r.b.Mark.DoneKey == "" {
		return
	}
	mark := r.b.Mark
	mark.Indexes = make([]int, len(ready))
	for i, v := range ready {
		mark.Indexes[i] = v.index
	}
	mark.All = done+len(ready) == len(r.b.Deliveries)
	rec.Marks = []core.Mark{mark}
}

// confirm does the step of every verdict that has one, and notes for each
// whether it is done. Every step may be done twice: retries and dead letters are
// named by their delivery, and a bundle put back twice is a repetition.
func (s *Sender) confirm(ctx context.Context, verdicts []*verdict) error {
	ctx, cancel := context.WithTimeout(ctx, settleCall)
	defer cancel()
	var retries, dead, back []*verdict
	recheckErr := s.recheck(ctx, verdicts)
	parkErr := s.confirmParked(ctx, verdicts, recheckErr == nil)
	s.noteFindings(ctx, verdicts)
	for _, v := range verdicts {
		switch {
		case v.confirmed:
		case recheckErr != nil && v.disabling() != "": // its endpoint may not be disabled yet
		case v.step == stepNone || v.step == stepStay:
			v.confirmed = true
		case v.step == stepDefer:
			back = append(back, v)
		case recheckErr != nil:
		case v.step == stepRetry:
			retries = append(retries, v)
		case v.step == stepDead:
			dead = append(dead, v)
		}
	}
	return errors.Join(parkErr, recheckErr, s.confirmRetries(ctx, retries), s.confirmDead(ctx, dead), s.confirmBack(ctx, back))
}

// recheck looks at the endpoints of what is about to be written. What would go
// on for one that was deleted while the attempt ran is discarded, and so is the
// row of what was delivered to it: its log was removed and must not come back.
// Endpoints that asked for it are disabled.
func (s *Sender) recheck(ctx context.Context, verdicts []*verdict) error {
	concerned := func(v *verdict) bool {
		return !v.confirmed && (v.hasRow || v.step == stepRetry || v.step == stepDead || v.condition.State != "")
	}
	refs := make([]core.EndpointRef, 0, len(verdicts))
	for _, v := range verdicts {
		if concerned(v) {
			refs = append(refs, v.delivery.Ref())
		}
	}
	if len(refs) == 0 {
		return nil
	}
	// Attempts are mostly faster than records age: then nothing is read.
	records, err := s.records.all(ctx, refs)
	if err != nil {
		return fmt.Errorf("read endpoint records: %w", err)
	}
	var changed []*record // by us, meanwhile
	for _, v := range verdicts {
		if !concerned(v) {
			continue
		}
		rec := records[0]
		records = records[1:]
		if slices.Contains(changed, rec) {
			if rec, err = s.records.get(ctx, v.delivery.Ref()); err != nil {
				return fmt.Errorf("read endpoint record: %w", err)
			}
		}
		if rec.endpoint == nil || v.revision != 0 && v.revision != rec.endpoint.URLRevision {
			v.finding.condition, v.failing = core.Condition{}, false // of a URL that is no more
		}
		switch {
		case rec.endpoint == nil && v.step == stepNone:
			v.hasRow = false
		case rec.endpoint == nil:
			v.discard()
		case v.disabling() != "" && rec.endpoint.Enabled && rec.endpoint.URLRevision == v.revision:
			if err := s.disable(ctx, v, rec.endpoint.Failing); err != nil {
				return err
			}
			changed = append(changed, rec)
		}
	}
	return nil
}

// disable stops the endpoint that answered 410 or asked to be disabled, unless it has another URL by
// now: that one was never asked.
func (s *Sender) disable(ctx context.Context, v *verdict, failing core.Failing) error {
	ref := v.delivery.Ref()
	e, err := s.store.UpdateEndpoint(ctx, ref, func(e *core.Endpoint) error {
		if !e.Enabled || e.URLRevision != v.revision {
			return errUnchanged
		}
		e.Enabled, e.DisabledBy = false, v.disabling()
		return nil
	})
	switch {
	case errors.Is(err, errUnchanged):
	case core.CodeOf(err) == core.CodeNotFound && v.step == stepNone:
		v.hasRow = false
	case core.CodeOf(err) == core.CodeNotFound:
		v.discard()
	case err != nil:
		return fmt.Errorf("disable endpoint: %w", err)
	default:
		s.metrics.endpointsStopped.Inc()
		s.logger.Info("endpoint disabled", "organization", ref.Organization, "endpoint", ref.ID,
			"reason", v.disabling(), "delivery", v.delivery.ID)
		e.Failing = failing
		s.announced(s.announcer.Disabled(ctx, e, v.disabling()))
	}
	s.records.forget(ref)
	return nil
}

func (s *Sender) confirmRetries(ctx context.Context, retries []*verdict) error {
	if len(retries) == 0 {
		return nil
	}
	ds := deliveries(retries)
	var first error
	errs := s.queue.Retry(ctx, ds)
	for i, v := range retries {
		if errs == nil || errs[i] == nil {
			v.confirmed = true
		} else if first == nil {
			first = fmt.Errorf("enqueue retry: %w", errs[i])
		}
	}
	return first
}

func (s *Sender) confirmDead(ctx context.Context, dead []*verdict) error {
	if len(dead) == 0 {
		return nil
	}
	letters := make([]core.DeadLetter, len(dead))
	for i, v := range dead {
		letters[i] = core.DeadLetter{Delivery: v.delivery, Reason: v.deadReason(), At: v.row.EndedAt()}
	}
	if err := s.store.AddDeadLetters(ctx, letters); err != nil {
		return fmt.Errorf("add dead letters: %w", err)
	}
	for _, v := range dead {
		v.confirmed = true
	}
	return nil
}

// confirmBack puts deliveries back, together with those that are due within the
// same second: the queue's time has no finer grain.
func (s *Sender) confirmBack(ctx context.Context, back []*verdict) error {
	slices.SortStableFunc(back, func(a, b *verdict) int { return a.due.Compare(b.due) })
	var errs []error
	for len(back) > 0 {
		n := 1
		for n < len(back) && back[n].due.Sub(back[0].due) < time.Second {
			n++
		}
		errs = append(errs, s.deferUntil(ctx, back[:n], back[n-1].due))
		back = back[n:]
	}
	return errors.Join(errs...)
}

func (s *Sender) deferUntil(ctx context.Context, back []*verdict, due time.Time) error {
	if err := s.queue.Defer(ctx, deliveries(back), due); err != nil {
		return fmt.Errorf("put deliveries back: %w", err)
	}
	for _, v := range back {
		v.confirmed = true
	}
	return nil
}

func deliveries(verdicts []*verdict) []core.Delivery {
	ds := make([]core.Delivery, len(verdicts))
	for i, v := range verdicts {
		ds[i] = v.delivery
	}
	return ds
}

// logEnd tells of a delivery that ended without success. Everything else about
// it is in the lines of its attempts.
func (s *Sender) logEnd(v *verdict) {
	level, message := slog.LevelInfo, "delivery given up"
	switch v.status {
	case core.StatusDiscarded:
		level, message = slog.LevelDebug, "delivery discarded"
	case core.StatusFailed:
	default:
		return
	}
	d := &v.delivery
	s.logger.Log(context.Background(), level, message, "organization", d.Organization, "endpoint", d.Endpoint,
		"delivery", d.ID, "event", d.Event.ID, "event_type", d.Event.Type, "attempts", d.Attempts, "reason", v.deadReason(),
		"request_id", d.Event.RequestID(), "trace_id", traceID(d.Event.TraceContext()))
}
