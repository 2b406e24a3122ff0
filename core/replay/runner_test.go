package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/leaktest"
	"github.com/sealpost/sealpost/redisstore"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

var shared redistest.Shared

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m, shared.Stop)) }

var errCrash = errors.New("crash")

// crashing is a store whose process dies at its n-th call: before that is made or,
// with after, before the answer is used.
type crashing struct {
	*redisstore.Store
	left  int
	after bool
}

// call makes a call unless the process is dead.
func (c *crashing) call(do func() error) error {
	if c.left--; c.left < 0 || c.left == 0 && !c.after {
		return errCrash
	}
	if err := do(); err != nil {
		return err
	}
	if c.left == 0 {
		return errCrash
	}
	return nil
}

func (c *crashing) ClaimRecovery(ctx context.Context) (r *core.Recovery, next time.Duration, err error) {
	err = c.call(func() (err error) { r, next, err = c.Store.ClaimRecovery(ctx); return err })
	return r, next, err
}

func (c *crashing) StepRecovery(ctx context.Context, r *core.Recovery, replayed []string) (done bool, err error) {
	err = c.call(func() (err error) { done, err = c.Store.StepRecovery(ctx, r, replayed); return err })
	return done, err
}

func (c *crashing) ReadDeadLetters(ctx context.Context, ref core.EndpointRef, r core.LetterRange, most int) (letters []core.KeptLetter, err error) {
	err = c.call(func() (err error) { letters, err = c.Store.ReadDeadLetters(ctx, ref, r, most); return err })
	return letters, err
}

func (c *crashing) Records(ctx context.Context, refs []core.EndpointRef) (es []*core.Endpoint, err error) {
	err = c.call(func() (err error) { es, err = c.Store.Records(ctx, refs); return err })
	return es, err
}

func (c *crashing) Replay(ctx context.Context, p core.Parking, entries []string) (ids []string, excess int, err error) {
	err = c.call(func() (err error) { ids, excess, err = c.Store.Replay(ctx, p, entries); return err })
	return ids, excess, err
}

// fixture is a real Redis with an endpoint.
type fixture struct {
	t      *testing.T
	store  *redisstore.Store
	client *redis.Client
	e      *core.Endpoint
}

func newFixture(t *testing.T, options redisstore.Options) *fixture {
	t.Helper()
	database := shared.Database(t)
	at, err := redisstore.ParseURL(database.URL())
	if err != nil {
		t.Fatal(err)
	}
	options.Client = redisstore.Open(at, redisstore.ProfileStore)
	t.Cleanup(func() { options.Client.Close() })
	f := &fixture{t: t, client: database.Client(t), e: &core.Endpoint{ID: core.NewEndpointID(), Organization: "acme", Enabled: true}}
	if f.store, err = redisstore.New(options); err != nil {
		t.Fatal(err)
	}
	f.must(f.store.CreateEndpoint(t.Context(), f.e, 10))
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// kill makes dead letters of n events, of which change may change each.
func (f *fixture) kill(n int, change func(i int, ev *core.Event)) {
	f.t.Helper()
	old := time.Now().Add(-20 * 24 * time.Hour).UTC().Truncate(time.Millisecond)
	letters := make([]core.DeadLetter, n)
	for i := range letters {
		ev := &core.Event{ID: fmt.Sprint("evt_", i), Type: "a.b", Body: []byte("{}"), AcceptedAt: old}
		if change != nil {
			change(i, ev)
		}
		letters[i] = core.DeadLetter{Reason: core.ReasonTimeout, At: time.Now(), Delivery: core.Delivery{
			ID: core.NewDeliveryID(old), Organization: "acme", Endpoint: f.e.ID, Event: ev, Attempts: 12,
		}}
	}
	f.must(f.store.AddDeadLetters(f.t.Context(), letters))
}

func (f *fixture) start() *core.Recovery {
	f.t.Helper()
	r := &core.Recovery{ID: core.NewRecoveryID(time.Now()), Endpoint: f.e.Ref(), CreatedAt: time.Now().UTC()}
	f.must(f.store.StartRecovery(f.t.Context(), r))
	return r
}

// steps runs a runner on s until nothing is due, or it fails.
func (f *fixture) steps(s store) error {
	r := New(s, slog.New(slog.DiscardHandler), nil)
	for {
		wait, err := r.next(f.t.Context())
		if err != nil || wait > time.Millisecond {
			return err
		}
	}
}

// endLeases lets the claims of killed runners run out.
func (f *fixture) endLeases() {
	f.t.Helper()
	for _, member := range f.client.ZRange(f.t.Context(), "sp:recoveries", 0, -1).Val() {
		f.must(f.client.ZAdd(f.t.Context(), "sp:recoveries", redis.Z{Member: member}).Err())
	}
}

// parked returns how often each event waits in the backlog.
func (f *fixture) parked() map[string]int {
	f.t.Helper()
	times, after := make(map[string]int), ""
	for {
		waiting, err := f.store.Backlog(f.t.Context(), f.e.Ref(), after, 1000)
		f.must(err)
		if len(waiting) == 0 {
			return times
		}
		for _, w := range waiting {
			if d := &w.Delivery; d.Attempts != 0 || !d.Due.IsZero() || time.Since(d.CreatedAt()) > time.Minute {
				f.t.Errorf("parked %+v, made at %v", d, d.CreatedAt())
			}
			times[w.Delivery.Event.ID]++
			after = w.Entry
		}
	}
}

func (f *fixture) letters() int {
	f.t.Helper()
	letters, err := f.store.ReadDeadLetters(f.t.Context(), f.e.Ref(), core.LetterRange{}, 10_000)
	f.must(err)
	return len(letters)
}

// TestCrashes: wherever a runner dies, the next one finishes the work. Nothing is
// lost, and nothing is sent twice.
func TestCrashes(t *testing.T) {
	t.Parallel()
	const letters = 2*stepLetters + 10
	died := 0
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			f := newFixture(t, redisstore.Options{})
			f.kill(letters, nil)
			job := f.start()
			err := f.steps(&crashing{Store: f.store, left: n, after: after})
			if err != nil && !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			f.endLeases()
			f.must(f.steps(f.store))
			times, twice := f.parked(), 0
			for _, n := range times {
				twice += n - 1
			}
			if len(times) != letters || twice != 0 || f.letters() != 0 {
				t.Errorf("call %d, after %t: %d of %d events wait, %d of them twice, %d are dead letters", n, after, len(times), letters, twice, f.letters())
			}
			got, recoverErr := f.store.Recovery(t.Context(), job.Endpoint, job.ID)
			f.must(recoverErr)
			if got.State != core.RecoveryDone || got.Total != letters || got.Replayed != letters || got.Skipped != 0 || got.EndedAt.IsZero() {
				t.Errorf("call %d, after %t: the recovery is %+v", n, after, got)
			}
			if err == nil {
				break // it ended before its n-th call
			}
			died++
		}
	}
	if died < 30 {
		t.Errorf("runners died %d times: this test does not see what it should", died)
	}
}

// TestWhatIsNotSentAgain: dead letters that are too old stay, and so do those that
// die while the recovery runs.
func TestWhatIsNotSentAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, redisstore.Options{})
	f.kill(4, func(i int, ev *core.Event) {
		if i%2 == 0 {
			ev.MaxAge = time.Hour
		}
	})
	job := f.start()
	f.kill(1, func(_ int, ev *core.Event) { ev.ID = "evt_later" })
	f.must(f.steps(f.store))
	if diff := cmp.Diff(map[string]int{"evt_1": 1, "evt_3": 1}, f.parked()); diff != "" {
		t.Errorf("in the backlog (-want +got):\n%s", diff)
	}
	got, err := f.store.Recovery(t.Context(), job.Endpoint, job.ID)
	f.must(err)
	if f.letters() != 3 || got.Total != 4 || got.Replayed != 2 || got.Skipped != 2 || got.State != core.RecoveryDone {
		t.Errorf("%d dead letters are left; the recovery is %+v", f.letters(), got)
	}
}

// TestEndpointsThatTakeNothing: a recovery ends with its endpoint, stops while that
// drops what comes, and goes on while it holds.
func TestEndpointsThatTakeNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(e *core.Endpoint)
		state  core.RecoveryState
		reason core.Reason
		parked int
	}{
		{"disabled, holds", func(e *core.Endpoint) { e.Enabled = false }, core.RecoveryDone, "", 3},
		{"disabled, drops", func(e *core.Endpoint) { e.Enabled, e.Drop = false, true }, core.RecoveryStopped, core.ReasonDisabled, 0},
		{"deleted", nil, core.RecoveryStopped, core.ReasonDeleted, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, redisstore.Options{})
			f.kill(3, nil)
			job := f.start()
			if tt.change == nil {
				f.must(f.store.DeleteEndpoint(t.Context(), f.e.Ref()))
			} else {
				_, err := f.store.UpdateEndpoint(t.Context(), f.e.Ref(), func(e *core.Endpoint) error { tt.change(e); return nil })
				f.must(err)
			}
			f.must(f.steps(f.store))
			got, err := f.store.Recovery(t.Context(), job.Endpoint, job.ID)
			f.must(err)
			if got.State != tt.state || got.Reason != tt.reason || len(f.parked()) != tt.parked || f.letters() != 3-tt.parked {
				t.Errorf("the recovery is %+v, %d deliveries wait, %d are dead letters", got, len(f.parked()), f.letters())
			}
			claims, _, err := f.store.ClaimBacklogs(t.Context(), 10)
			f.must(err)
			if len(claims) != 0 {
				t.Errorf("%d drains are bothered", len(claims))
			}
		})
	}
}

// TestFullBacklog: a recovery does not push out what waits already.
func TestFullBacklog(t *testing.T) {
	t.Parallel()
	f := newFixture(t, redisstore.Options{MaxBacklog: 100})
	f.kill(2*stepLetters, nil)
	job := f.start()
	f.must(f.steps(f.store))
	if n := len(f.parked()); n != stepLetters {
		t.Errorf("%d deliveries wait, want %d", n, stepLetters)
	}
	f.endLeases()
	f.must(f.steps(f.store))
	got, err := f.store.Recovery(t.Context(), job.Endpoint, job.ID)
	f.must(err)
	if got.State != core.RecoveryRunning || got.Replayed != 2*stepLetters {
		t.Errorf("the recovery is %+v", got)
	}
}

// TestRun: a runner stops when it is told to, in the middle of its waiting too.
func TestRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t, redisstore.Options{})
	f.kill(3, nil)
	job := f.start()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- New(f.store, slog.New(slog.DiscardHandler), nil).Run(ctx) }()
	for {
		got, err := f.store.Recovery(t.Context(), job.Endpoint, job.ID)
		f.must(err)
		if got.State == core.RecoveryDone {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	f.must(<-ended)
}
