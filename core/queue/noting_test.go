package queue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// books are a producer that keeps answers and the store that has the claims.
type books struct {
	*fixture
	store *redisstore.Store
}

func keepingBooks(t *testing.T, client redis.UniversalClient) *books {
	t.Helper()
	store, err := redisstore.New(redisstore.Options{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	return &books{fixture: setupWith(t, client), store: store}
}

func (b *books) keeping(client redis.UniversalClient) *Producer {
	b.t.Helper()
	o := b.options()
	o.Client = client
	p, err := NewProducer(ProducerOptions{Options: o, Keeping: redisstore.Keeping{}})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// claim claims a key and returns its answer for deliveries from to to.
func (b *books) claim(key string, from, to int) core.Keyed {
	b.t.Helper()
	k := core.Keyed{
		Reservation: core.Reservation{Organization: "acme", Key: key, Owner: core.NewToken(), EventID: key, Answer: []byte("answer to " + key)},
		From:        from, To: to,
	}
	if state := b.state(&k.Reservation); state.Kind != core.ReservationGranted {
		b.t.Fatalf("claim %s: %+v, want it granted", key, state)
	}
	return k
}

// state asks for a claim once more.
func (b *books) state(r *core.Reservation) core.ReservationState {
	b.t.Helper()
	_, states, err := b.store.Begin(context.Background(), nil, []core.Reservation{*r}, core.Draws{})
	if err != nil {
		b.t.Fatal(err)
	}
	return states[0]
}

// takeOver asks for a claim in the name of another request after its lease.
func (b *books) takeOver(r *core.Reservation) core.ReservationState {
	b.t.Helper()
	key, _ := redisstore.Keeping{}.Answer(r)
	if err := b.client.HSet(b.t.Context(), key, "until", 1000).Err(); err != nil {
		b.t.Fatal(err)
	}
	heir := *r
	heir.Owner = core.NewToken()
	return b.state(&heir)
}

// kept returns "key answer" for each claim that has its answer, and fails if it is
// not the one that keyed says.
func (b *books) kept(keyed []core.Keyed) []string {
	b.t.Helper()
	var kept []string
	for i := range keyed {
		state := b.state(&keyed[i].Reservation)
		if answered := state.Kind == core.ReservationAnswered; answered != keyed[i].Noted {
			b.t.Errorf("claim %s: answered %t, said to be noted %t", keyed[i].Key, answered, keyed[i].Noted)
		}
		if state.Kind == core.ReservationAnswered {
			kept = append(kept, keyed[i].Key+" "+string(state.Answer))
		}
	}
	return kept
}

// Answers are kept with the one task that has all of which they speak, whether it
// carries its deliveries or refers to them; others are left to the caller.
func TestAnswersAreKeptWithTheirTask(t *testing.T) {
	t.Parallel()
	b := keepingBooks(t, shared.Database(t).Client(t))
	p := b.keeping(b.client)
	wide := append(fanOut(event("evt_1", 0), 200), fanOut(event("evt_2", 0), 150)...)
	for _, tt := range []struct {
		name  string
		ds    []core.Delivery
		keyed []core.Keyed
		want  []string
	}{
		{"inline", fanOut(event("evt_1", 0), 1), []core.Keyed{b.claim("a", 0, 1)}, []string{"a answer to a"}},
		{"blob", fanOut(event("evt_1", 0), 20), []core.Keyed{b.claim("b", 0, 20)}, []string{"b answer to b"}},
		{"none", fanOut(event("evt_1", 0), 1), nil, nil},
		{"two tasks, one answer each", wide, []core.Keyed{b.claim("c", 0, 200), b.claim("d", 200, 350)}, []string{"c answer to c", "d answer to d"}},
		{"two tasks, one answer to both", wide, []core.Keyed{b.claim("e", 0, 350)}, nil}, // see TestNotesOfTasks
		{"one task, two answers", fanOut(event("evt_1", 0), 30), []core.Keyed{b.claim("f", 0, 10), b.claim("g", 20, 30)}, []string{"f answer to f", "g answer to g"}},
	} {
		before := b.allStats()[0].Pending
		if errs := p.EnqueueKeyed(t.Context(), tt.ds, tt.keyed); errs != nil {
			t.Fatalf("%s: %v", tt.name, errs)
		}
		if diff := cmp.Diff(tt.want, b.kept(tt.keyed)); diff != "" {
			t.Errorf("%s: answers (-want +got):\n%s", tt.name, diff)
		}
		if stored := b.allStats()[0].Pending - before; stored != int64(len(split(tt.ds))) {
			t.Errorf("%s: %d tasks stored, want %d", tt.name, stored, len(split(tt.ds)))
		}
	}
	without := []core.Keyed{b.claim("h", 0, 1)}
	if errs := b.producer().EnqueueKeyed(t.Context(), fanOut(event("evt_1", 0), 1), without); errs != nil || len(b.kept(without)) != 0 {
		t.Errorf("without Keeping: %v, want no answer", errs)
	}
}

// What several tasks hold under one reservation is noted with each of them, and what
// one holds of several reservations with each of those.
func TestNotesOfTasks(t *testing.T) {
	t.Parallel()
	b := keepingBooks(t, shared.Database(t).Client(t))
	p := b.keeping(b.client)
	var ds []core.Delivery
	for i, n := range []int{200, 150, 400} {
		e := event(fmt.Sprint("evt_", i), 0)
		e.Index = i
		ds = append(ds, fanOut(e, n)...)
	}
	var want []int // deliveries in each task
	for _, part := range split(ds) {
		want = append(want, part.to-part.from)
	}
	if diff := cmp.Diff([]int{200, 150, 256, 144}, want); diff != "" {
		t.Fatalf("tasks (-want +got):\n%s", diff)
	}
	without := b.claim("speaks of others, too", 200, 250)
	without.Answer = nil
	keyed := []core.Keyed{b.claim("one and a half", 0, 150), without, b.claim("rest", 250, 750)}
	if errs := p.EnqueueKeyed(t.Context(), ds, keyed); errs != nil {
		t.Fatal(errs)
	}
	for i, want := range []int{150, 50, 500} {
		k := &keyed[i]
		if k.Noted != (i == 0) {
			t.Errorf("%s: noted %t", k.Key, k.Noted)
		}
		if i == 0 {
			continue
		}
		state := b.takeOver(&k.Reservation)
		got := 0
		for i := k.From; i < k.To; i++ {
			if _, ok := state.Stored[ds[i].Event.Index][ds[i].Endpoint]; ok {
				got++
			}
		}
		total := 0
		for _, endpoints := range state.Stored {
			total += len(endpoints)
		}
		if state.Kind != core.ReservationTakenOver || got != want || total != want {
			t.Errorf("%s: %d of %d deliveries are noted, %d in all, want %d", k.Key, got, k.To-k.From, total, want)
		}
	}
}

// Nothing is stored for a request whose claim another one has taken over, nor what
// travels with it: that one stores it, or has.
func TestLostClaimStoresNothing(t *testing.T) {
	t.Parallel()
	b := keepingBooks(t, shared.Database(t).Client(t))
	own, lost := b.claim("own", 0, 1), b.claim("lost", 1, 2)
	heir := lost.Reservation
	lost.Owner = core.NewToken()
	keyed := []core.Keyed{own, lost}
	errs := b.keeping(b.client).EnqueueKeyed(t.Context(), fanOut(event("evt_1", 0), 2), keyed)
	if errs == nil || !errors.Is(errs[0], core.ErrNotStored) || !errors.Is(errs[1], core.ErrNotStored) {
		t.Errorf("errors %v, want what is certainly not stored", errs)
	}
	if kept := b.kept(keyed); kept != nil || b.allStats()[0].Pending != 0 {
		t.Errorf("answers %v and %d tasks, want none", kept, b.allStats()[0].Pending)
	}
	wide := lost
	wide.From, wide.To = 0, 300
	errs = b.keeping(b.client).EnqueueKeyed(t.Context(), fanOut(event("evt_1", 0), 300), []core.Keyed{wide})
	if len(errs) != 300 || !errors.Is(errs[0], core.ErrNotStored) || !errors.Is(errs[299], core.ErrNotStored) || b.allStats()[0].Pending != 0 {
		t.Errorf("%d errors and %d tasks of a request that needs two, want none to be stored", len(errs), b.allStats()[0].Pending)
	}
	if state := b.state(&heir); state.Kind != core.ReservationGranted {
		t.Errorf("its holder: %+v, want the claim granted", state)
	}
	if errs := b.keeping(b.client).EnqueueKeyed(t.Context(), fanOut(event("evt_1", 0), 1), []core.Keyed{own}); errs != nil {
		t.Errorf("the other alone: %v", errs)
	}
}

// Without the task there is no answer, whatever it was that failed, and after a lost
// reply there is one of each.
func TestAnswersAreNeverAlone(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection lost")
	for _, tt := range []struct {
		name   string
		ds     int
		fault  func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error // of the first pipeline
		kept   bool
		stored int64
		fails  bool
	}{
		{name: "request lost", ds: 1, kept: true, stored: 1, fault: func(_ context.Context, cmds []redis.Cmder, _ redis.ProcessPipelineHook) error {
			return failAll(cmds, broken)
		}},
		{name: "reply lost", ds: 20, kept: true, stored: 1, fault: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
			_ = next(ctx, cmds)
			return failAll(cmds, broken)
		}},
		{name: "refused", ds: 1, fails: true, fault: func(_ context.Context, cmds []redis.Cmder, _ redis.ProcessPipelineHook) error {
			return failAll(cmds, redisError("OOM command not allowed"))
		}},
		// asynq's task is there, but there is nothing in it.
		{name: "blob refused", ds: 20, stored: 1, fails: true, fault: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
			err := next(ctx, cmds[1:])
			cmds[0].SetErr(redisError("OOM command not allowed"))
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := keepingBooks(t, shared.Database(t).Client(t))
			var armed atomic.Bool
			spoilt := b.sibling()
			spoilt.AddHook(&faultHook{pipeline: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
				if armed.CompareAndSwap(true, false) {
					return tt.fault(ctx, cmds, next)
				}
				return next(ctx, cmds)
			}})
			p := b.keeping(spoilt)
			if errs := p.EnqueueKeyed(t.Context(), fanOut(event("evt_0", 0), 1), []core.Keyed{b.claim("known", 0, 1)}); errs != nil {
				t.Fatal(errs) // now asynq, Redis and p know the script
			}
			armed.Store(true)
			keyed := []core.Keyed{b.claim("k", 0, tt.ds)}
			errs := p.EnqueueKeyed(t.Context(), fanOut(event("evt_1", 0), tt.ds), keyed)
			if (errs != nil) != tt.fails || tt.fails && !errors.Is(errs[0], core.ErrNotStored) {
				t.Errorf("errors %v, want certain ones: %t", errs, tt.fails)
			}
			if kept := len(b.kept(keyed)) == 1; kept != tt.kept {
				t.Errorf("answer kept: %t, want %t", kept, tt.kept)
			}
			if stored := b.allStats()[0].Pending - 1; stored != tt.stored {
				t.Errorf("%d tasks stored, want %d", stored, tt.stored)
			}
		})
	}
}

// What a replica may not have is not what Redis has refused: its task is there, and its
// blob stays.
func TestUnconfirmedIsNotRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := keepingBooks(t, server.Client(t))
	at, err := redisstore.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redisstore.Open(at, redisstore.ProfilePublish)
	t.Cleanup(func() { _ = client.Close() })
	if err := redisstore.Confirm(client, redisstore.DurabilityReplica); err != nil {
		t.Fatal(err)
	}
	client.AddHook(&faultHook{pipeline: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
		n := len(cmds) - 1
		wait, ok := cmds[n].(*redis.IntCmd)
		if !ok || wait.Name() != "wait" {
			return next(ctx, cmds)
		}
		err := next(ctx, cmds[:n])
		wait.SetVal(1)
		cmds[n-1].SetErr(redisError("OOM command not allowed")) // the write before it
		return err
	}})
	p := b.keeping(client)
	keyed := []core.Keyed{b.claim("k", 0, 20)}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	errs := p.EnqueueKeyed(ctx, fanOut(event("evt_1", 0), 20), keyed)
	if len(errs) != 20 || errors.Is(errs[0], core.ErrNotStored) {
		t.Fatalf("%d errors, want 20, and that they leave it open: %.200v", len(errs), errs)
	}
	blobs := b.client.Keys(t.Context(), "*:bundle:*").Val()
	if stored := b.allStats()[0].Pending; stored != 1 || len(blobs) != 1 {
		t.Errorf("%d tasks and the blobs %v, want one of each: there is an answer that speaks of them", stored, blobs)
	}
}

// A Redis that has forgotten its scripts is shown them again, with the answers; one
// that is full keeps neither task nor answer.
func TestAnswersWithoutScripts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := keepingBooks(t, server.Client(t))
	p := b.keeping(b.client)
	for i := range 3 {
		keyed := []core.Keyed{b.claim(fmt.Sprint(i), 0, 1)}
		if errs := p.EnqueueKeyed(t.Context(), fanOut(event("evt_1", 0), 1), keyed); errs != nil {
			t.Fatal(errs)
		}
		if len(b.kept(keyed)) != 1 {
			t.Error("the answer was not kept")
		}
		if err := b.client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	keyed := []core.Keyed{b.claim("full", 0, 1)}
	if err := b.client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	errs := p.EnqueueKeyed(t.Context(), fanOut(event("evt_1", 0), 1), keyed)
	if err := b.client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if errs == nil || !errors.Is(errs[0], core.ErrNotStored) || len(b.kept(keyed)) != 0 {
		t.Errorf("in a full Redis: %v, want what is certainly not stored, and no answer", errs)
	}
}
