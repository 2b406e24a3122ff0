package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/sign"
)

// maxRestarts bounds how often a delivery begins anew in one run because its
// endpoint changed while the connection was being made.
const maxRestarts = 3

// clockSlack is how far the clocks of a gateway and a sender may differ where the
// two are compared.
const clockSlack = time.Second

// maxSignings bounds how often a request is signed anew because its record grew
// too old meanwhile.
const maxSignings = 3

// quickToSign is how many bytes are signed in less than a millisecond, in all.
const quickToSign = 64 << 10

// errPanic says that an attempt panicked. It concerns its delivery alone.
var errPanic = errors.New("panic in an attempt")

// Why the composition of a request ended its attempt with nothing written.
var (
	errNoRecord  = errors.New("the endpoint's record could not be read again")
	errChanged   = errors.New("the endpoint was deleted, disabled or moved")
	errNoKey     = errors.New("no key to sign with")
	errTooOld    = errors.New("the event is older than its max_age")
	errLeaseLost = errors.New("the lease of the task is lost")
)

// attempt is the state that composing a request needs. Attempts are pooled: the
// method value compose would otherwise be made anew for each.
type attempt struct {
	s       *Sender
	lease   context.Context // ends when another sender may have the delivery
	d       *core.Delivery
	rec     *record
	trace   *core.TraceContext // told to the receiver; nil: nothing
	compose egress.Compose     // write, bound to this attempt
}

func newAttempt(s *Sender) *attempt {
	a := &attempt{s: s}
	a.compose = a.write
	return a
}

// lease is the right to work on deliveries.
type lease struct {
	ctx      context.Context // ends with the right: nothing is started after it
	detached context.Context // the same values, never cancelled
}

func newLease(ctx context.Context) lease {
	return lease{ctx: ctx, detached: context.WithoutCancel(ctx)}
}

// way is how a delivery came to a sender.
type way int

const (
	express     way = iota // in a bundle
	fromBacklog            // out of its endpoint's backlog
)

// deliver takes d as far as it can be taken at now and returns what came of it.
func (s *Sender) deliver(l lease, d *core.Delivery, via way, now time.Time) *verdict {
	for range maxRestarts {
		rec, at, v := s.ready(l, d, via, now)
		if v == nil {
			v = s.try(l, d, rec, via, at)
		}
		if v != nil {
			return v
		}
		now = s.now()
	}
	return s.postponed(d, nil, via, now)
}

// ready returns the record to send d under and the time, which is now or, when the
// record had to be read, later; or the verdict if it cannot be sent.
func (s *Sender) ready(l lease, d *core.Delivery, via way, now time.Time) (rec *record, at time.Time, v *verdict) {
	if s.expired(d, via, now) {
		return nil, now, ended(d, core.ReasonExpired, now)
	}
	var err error
	rec = s.records.cached(d.Ref(), now)
	if rec == nil || rec.endpoint != nil && !rec.endpoint.Enabled {
		rec, err = s.record(l.ctx, d)
		now = s.now()
	}
	switch {
	case err != nil:
		return nil, now, open(fmt.Errorf("read endpoint record: %w", err))
	case rec.endpoint == nil:
		return nil, now, ended(d, core.ReasonDeleted, now)
	case !rec.endpoint.Enabled && rec.endpoint.Drop:
		return nil, now, ended(d, core.ReasonDisabled, now)
	case late(d, rec, now):
		return nil, now, ended(d, core.ReasonExpired, now)
	case !rec.endpoint.Enabled:
		return nil, now, parked(d, core.Condition{}, now.Add(core.HeldLook))
	case via == express && rec.endpoint.Paced():
		return nil, now, parked(d, core.Condition{}, time.Time{})
	}
	if via == express {
		if c, parks := s.health.parks(rec.endpoint, now); parks {
			return nil, now, parked(d, c, time.Time{})
		}
	}
	if rec.targetErr != nil {
		// The URL was accepted under other rules than those in force now.
		res := egress.Result{Reason: core.ReasonBlocked, Err: rec.targetErr}
		return nil, now, s.judge(d, rec, &res, via, now, now)
	}
	return rec, now, nil
}

// record returns a fresh record of d's endpoint, asking with patience. One that
// says "disabled" must be younger than the event: the endpoint may have been
// enabled between the two, which is why the event was accepted for it.
func (s *Sender) record(ctx context.Context, d *core.Delivery) (rec *record, err error) {
	err = s.patiently(ctx, func() (err error) {
		rec, err = s.records.get(ctx, d.Ref())
		if err == nil && rec.endpoint != nil && !rec.endpoint.Enabled && rec.readAt.Before(d.Event.AcceptedAt.Add(clockSlack)) {
			s.records.forget(d.Ref())
			rec, err = s.records.get(ctx, d.Ref())
		}
		return err
	})
	return rec, err
}

// try makes, at began, one attempt of d under rec. It returns nil if nothing was written
// because rec no longer held, and could not be replaced.
func (s *Sender) try(l lease, d *core.Delivery, rec *record, via way, began time.Time) *verdict {
	a := s.attempts.Get().(*attempt)
	a.lease, a.d, a.rec = l.ctx, d, rec
	span, trace := s.startSpan(d, began)
	if !s.hideTrace {
		a.trace = trace
	}
	s.watcher.Attempt(began)
	// An attempt under way is finished even when the lease is lost: cut off, it
	// would be in doubt, and it is short.
	res := s.client.Post(l.detached, began, s.deliveryTimeout, rec.target, a.compose)
	rec = a.rec
	a.lease, a.d, a.rec, a.trace = nil, nil, nil, nil
	s.attempts.Put(a)

	ended := began.Add(res.Total)
	if !res.Started && res.Status == 0 && res.Reason == "" {
		return s.unwritten(d, rec, res.Err, via, ended)
	}
	v := s.judge(d, rec, &res, via, began, ended)
	if via == express { // how long a backlog makes wait is told by its own metrics
		s.metrics.started(d, began)
	}
	s.metrics.attempted(v, &res)
	s.troubles.note(v, &res)
	s.consider(v, rec, &res, via)
	s.logAttempt(l.ctx, v, &res)
	if span != nil {
		endSpan(span, v, &res, rec.target, ended)
	}
	return v
}

// unwritten is the verdict on an attempt that ended before its first byte for a
// reason of ours; nil: begin anew.
func (s *Sender) unwritten(d *core.Delivery, rec *record, err error, via way, now time.Time) *verdict {
	switch {
	case errors.Is(err, errChanged):
		s.client.DropIdle(rec.target) // what was connected for is not wanted there
		return nil
	case errors.Is(err, errNoRecord):
		return nil // the next round asks again, with patience
	case errors.Is(err, errTooOld):
		return ended(d, core.ReasonExpired, now)
	case errors.Is(err, egress.ErrBusy):
		// Our own limit on connections to the host: not the endpoint's failure.
		return s.postponed(d, rec, via, now)
	case errors.Is(err, errNoKey):
		s.reportMismatch(rec.endpoint, err, now)
		return s.held(d, rec, via, now)
	case err == nil:
		err = errors.New("BUG: no response, no reason and no error")
	}
	return open(err)
}

// write composes the request of a. It runs on a ready connection immediately
// before the first byte, so what it checks holds when the attempt starts.
func (a *attempt) write(m *egress.Message) error {
	if a.lease.Err() != nil {
		return errLeaseLost
	}
	for range maxSignings {
		now, err := a.refresh()
		if err != nil {
			return err
		}
		if late(a.d, a.rec, now) {
			return errTooOld
		}
		header, err := a.appendHeader(m.Header[:0], now)
		if err != nil {
			return err
		}
		m.Header, m.Body = header, a.d.Event.Body
		// Signing a large body for many secrets takes its time.
		if len(m.Body)*len(a.rec.keys) <= quickToSign || a.rec.fresh(a.s.now()) {
			return nil
		}
	}
	return errNoRecord
}

// refresh reads the record again if it is too old to begin under, and returns when it
// was not, or errChanged if the request may no longer be sent, or not there.
func (a *attempt) refresh() (now time.Time, err error) {
	for {
		if now = a.s.now(); a.rec.fresh(now) {
			return now, nil
		}
		rec, err := a.s.records.get(a.lease, a.d.Ref())
		if err != nil {
			return now, fmt.Errorf("%w: %w", errNoRecord, err)
		}
		if rec.endpoint == nil || !rec.endpoint.Enabled || rec.endpoint.URLRevision != a.rec.endpoint.URLRevision {
			return now, errChanged
		}
		a.rec = rec
	}
}

// appendHeader appends the headers of Standard Webhooks 1.0.0, with a signature
// of every secret that is valid at now, newest first. If one of them cannot be
// derived nothing is signed at all: a receiver that knows only that one would
// see a forgery.
func (a *attempt) appendHeader(dst []byte, now time.Time) ([]byte, error) {
	id, seconds := a.d.Event.ID, now.Unix()
	dst = append(dst, sign.HeaderID+": "...)
	dst = append(dst, id...)
	dst = append(dst, "\r\n"+sign.HeaderTimestamp+": "...)
	dst = strconv.AppendInt(dst, seconds, 10)
	dst = append(dst, "\r\n"+sign.HeaderSignature+":"...)
	signed := false
	for i := range a.rec.keys {
		key := &a.rec.keys[i]
		if !key.validAt(now) {
			continue
		}
		if key.err != nil {
			return dst, fmt.Errorf("%w: %w", errNoKey, key.err)
		}
		dst = append(dst, ' ')
		dst = key.signer.AppendSignature(dst, id, seconds, a.d.Event.Body)
		signed = true
	}
	if !signed {
		return dst, fmt.Errorf("%w: the endpoint has no valid secret", errNoKey)
	}
	return appendTrace(append(dst, '\r', '\n'), a.trace), nil
}

// turn runs d at now. A panic is logged and leaves the delivery unsettled: it comes back
// later, and the process lives on for all others.
func (s *Sender) turn(l lease, d *core.Delivery, via way, now time.Time) (v *verdict) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("panic in an attempt", "delivery", d.ID, "endpoint", d.Endpoint,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			v = open(fmt.Errorf("%w: %v", errPanic, p))
		}
	}()
	v = s.deliver(l, d, via, now)
	s.metrics.judged(v)
	return v
}

// logAttempt writes one wide line. It holds neither URL nor payload.
func (s *Sender) logAttempt(ctx context.Context, v *verdict, res *egress.Result) {
	if !s.logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	row, event := &v.row, v.delivery.Event
	s.logger.LogAttrs(ctx, slog.LevelDebug, "attempt",
		slog.String("organization", v.delivery.Organization), slog.String("endpoint", row.Endpoint),
		slog.String("delivery", row.Delivery), slog.String("event", row.Event), slog.String("event_type", row.EventType),
		slog.Int("attempt", row.Number), slog.String("outcome", string(v.outcome)), slog.String("status", string(v.status)),
		slog.String("reason", string(v.reason)), slog.Int("response_status", row.ResponseStatus),
		slog.Duration("latency", row.Latency), slog.Duration("dns", res.DNS), slog.Duration("connect", res.Connect),
		slog.Duration("tls", res.TLS), slog.Duration("first_byte", res.FirstByte),
		slog.Bool("reused", res.Reused), slog.Bool("resent", res.Resent),
		slog.Time("next_at", row.NextAt), slog.Any("error", res.Err),
		slog.String("request_id", event.RequestID()), slog.String("trace_id", traceID(event.TraceContext())))
}

// reportMismatch counts a delivery that cannot be signed and says so loudly, but
// not for every delivery.
func (s *Sender) reportMismatch(e *core.Endpoint, err error, now time.Time) {
	s.metrics.keyMismatches.Inc()
	if s.mismatches.allow(e.ID, now) {
		s.logger.Error("signing key mismatch: nothing is sent to this endpoint until the master keys are right",
			"organization", e.Organization, "endpoint", e.ID, "error", err)
	}
}
