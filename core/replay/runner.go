package replay

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/core"
)

const (
	// stepLetters is how many dead letters a step deals with at most.
	stepLetters = 256

	// stepBudget bounds a step. It is below the lease of the claim on it.
	stepBudget = 10 * time.Second

	// idleLook is how long a runner waits before it looks for recoveries again.
	idleLook = 6 * time.Second

	// retryWait is how long it waits after a failure of the store.
	retryWait = time.Second

	// fullWait is how long a recovery waits whose endpoint's backlog is full.
	fullWait = 10 * time.Second
)

// store is what a Runner needs of Redis; *redisstore.Store is one.
type store interface {
	// ClaimRecovery claims a recovery for one step. nil stands for none; then next is
	// the time until one is due, 0: unknown.
	ClaimRecovery(ctx context.Context) (r *core.Recovery, next time.Duration, err error)
	// StepRecovery notes r's state and removes the dead letters that were replayed, and
	// has the next step made. It reports false if somebody else made this step.
	StepRecovery(ctx context.Context, r *core.Recovery, replayed []string) (done bool, err error)
	// DeferRecovery has the next step made after wait.
	DeferRecovery(ctx context.Context, r *core.Recovery, wait time.Duration) error
	// ReadDeadLetters returns the oldest in a range, none if there are none. One that
	// cannot be read has no event.
	ReadDeadLetters(ctx context.Context, ref core.EndpointRef, r core.LetterRange, most int) ([]core.KeptLetter, error)
	// Records returns endpoints, nil where there is none.
	Records(ctx context.Context, refs []core.EndpointRef) ([]*core.Endpoint, error)
	// Replay puts fresh deliveries of dead letters, named by entries, into a backlog,
	// each letter once until it is removed.
	Replay(ctx context.Context, p core.Parking, entries []string) (ids []string, excess int, err error)
}

// Runner makes the steps of recoveries, one at a time.
type Runner struct {
	store  store
	logger *slog.Logger
	now    func() time.Time
}

// New returns a Runner. now may be nil: time.Now.
func New(s store, logger *slog.Logger, now func() time.Time) *Runner {
	if now == nil {
		now = time.Now
	}
	return &Runner{store: s, logger: logger, now: now}
}

// Run makes steps until ctx ends. A step that was begun is finished. It returns nil.
func (r *Runner) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		wait, err := r.next(context.WithoutCancel(ctx))
		if err != nil {
			r.logger.Warn("a recovery did not get on", "error", err)
			wait = retryWait
		}
		if wait <= 0 {
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
	return nil
}

// next makes a step if one is due, and returns how long to wait for the one after.
func (r *Runner) next(ctx context.Context) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepBudget)
	defer cancel()
	job, wait, err := r.store.ClaimRecovery(ctx)
	switch {
	case err != nil:
		return 0, fmt.Errorf("claim a recovery: %w", err)
	case job != nil:
		return 0, r.step(ctx, job)
	case wait <= 0:
		return idleLook, nil
	}
	return min(wait, idleLook), nil
}

// step makes the next step of job.
func (r *Runner) step(ctx context.Context, job *core.Recovery) error {
	endpoints, err := r.store.Records(ctx, []core.EndpointRef{job.Endpoint})
	if err != nil {
		return fmt.Errorf("read endpoint: %w", err)
	}
	e := endpoints[0]
	switch {
	case e == nil:
		return r.end(ctx, job, core.RecoveryStopped, core.ReasonDeleted)
	case e.Replayable() != nil:
		return r.end(ctx, job, core.RecoveryStopped, core.ReasonDisabled)
	case job.Last == "": // there was nothing
		return r.end(ctx, job, core.RecoveryDone, "")
	}
	letters, err := r.store.ReadDeadLetters(ctx, job.Endpoint, core.LetterRange{After: job.After, Since: job.Since, Last: job.Last}, stepLetters)
	switch {
	case err != nil:
		return fmt.Errorf("read dead letters: %w", err)
	case len(letters) == 0:
		return r.end(ctx, job, core.RecoveryDone, "")
	}
	return r.replay(ctx, job, e, letters)
}

// replay parks what can be sent again and then removes it from the dead letters.
func (r *Runner) replay(ctx context.Context, job *core.Recovery, e *core.Endpoint, letters []core.KeptLetter) error {
	now := r.now()
	var again []*core.KeptLetter
	var entries []string
	for i := range letters {
		if l := &letters[i]; e.Replays(l, now) {
			again, entries = append(again, l), append(entries, l.Entry)
		}
	}
	excess := 0
	if len(again) > 0 {
		var err error
		if _, excess, err = r.store.Replay(ctx, e.ReplayParking(again, now), entries); err != nil {
			return fmt.Errorf("park replayed deliveries: %w", err)
		}
	}
	job.Replayed += len(again)
	job.Skipped += len(letters) - len(again)
	job.After = letters[len(letters)-1].Entry
	done, err := r.store.StepRecovery(ctx, job, entries)
	switch {
	case err != nil:
		return fmt.Errorf("note a step: %w", err)
	case !done:
		r.logger.Warn("a step of a recovery was made twice", "endpoint", job.Endpoint.ID, "recovery", job.ID, "deliveries", len(again))
	case excess > 0: // more would push the oldest out
		return r.store.DeferRecovery(ctx, job, fullWait)
	}
	return nil
}

// end ends job.
func (r *Runner) end(ctx context.Context, job *core.Recovery, state core.RecoveryState, reason core.Reason) error {
	job.State, job.Reason, job.EndedAt = state, reason, r.now().UTC().Truncate(time.Millisecond)
	done, err := r.store.StepRecovery(ctx, job, nil)
	if err != nil {
		return fmt.Errorf("end a recovery: %w", err)
	}
	if done {
		r.logger.Info("recovery ended", "organization", job.Endpoint.Organization, "endpoint", job.Endpoint.ID, "recovery", job.ID,
			"state", state, "reason", reason, "total", job.Total, "replayed", job.Replayed, "skipped", job.Skipped)
	}
	return nil
}
