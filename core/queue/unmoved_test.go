package queue

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

const versionOfAcme = "sp:{org:acme}:version"

// comparing returns a producer that compares versions.
func (f *fixture) comparing(client redis.UniversalClient) *Producer {
	f.t.Helper()
	o := f.options()
	o.Client = client
	p, err := NewProducer(ProducerOptions{Options: o, VersionKey: func(organization string) string { return "sp:{org:" + organization + "}:version" }})
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// left returns the keys of bundles and tasks that there are.
func (f *fixture) left() []string {
	f.t.Helper()
	var left []string
	for _, pattern := range []string{"sp:*:bundle:*", "asynq:*:t:*", "asynq:*:pending"} {
		keys, err := f.client.Keys(context.Background(), pattern).Result()
		if err != nil {
			f.t.Fatal(err)
		}
		left = append(left, keys...)
	}
	return left
}

// What is stored under a version is stored if that is the version, in a task or beside
// it, and leaves nothing behind if it is not.
func TestEnqueueUnmoved(t *testing.T) {
	t.Parallel()
	for _, flush := range []bool{false, true} { // Redis forgets its scripts
		for _, n := range []int{1, 20} {
			f := setup(t)
			p := f.comparing(f.client)
			store := func(version string) bool {
				t.Helper()
				if flush {
					if err := f.client.ScriptFlush(t.Context()).Err(); err != nil {
						t.Fatal(err)
					}
				}
				errs, unmoved := p.EnqueueUnmoved(t.Context(), fanOut(event("evt_1", 0), n), "acme", version)
				if errs != nil {
					t.Fatal(errs)
				}
				return unmoved
			}
			if store("v1") {
				t.Error("stored although there is no version")
			}
			f.client.Set(t.Context(), versionOfAcme, "v2", 0)
			if store("v1") {
				t.Error("stored under another version")
			}
			if left := f.left(); len(left) > 0 {
				t.Errorf("%v is left of what was not stored", left)
			}
			for range 2 {
				if !store("v2") {
					t.Error("not stored under the very version")
				}
			}
			if d, _ := f.stats(); d.Pending != 2 {
				t.Errorf("%d tasks are pending; want 2", d.Pending)
			}
			handler, bundles := f.collect()
			f.consume(handler)
			for range 2 {
				if b := receive(t, "bundle", bundles); len(b.Deliveries) != n {
					t.Errorf("%d deliveries; want %d", len(b.Deliveries), n)
				}
			}
		}
	}
}

// Where nobody can tell, nothing is stored.
func TestEnqueueUnmovedCannotTell(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.client.Set(t.Context(), versionOfAcme, "v1", 0)
	for name, try := range map[string]func() ([]error, bool){
		"without keys": func() ([]error, bool) {
			return f.producer().EnqueueUnmoved(t.Context(), fanOut(event("evt_1", 0), 1), "acme", "v1")
		},
		"several bundles": func() ([]error, bool) {
			return f.comparing(f.client).EnqueueUnmoved(t.Context(), fanOut(event("evt_1", 0), 1000), "acme", "v1")
		},
	} {
		if errs, unmoved := try(); errs != nil || unmoved {
			t.Errorf("%s: %v, %t; want nothing", name, errs, unmoved)
		}
	}
	if left := f.left(); len(left) > 0 {
		t.Errorf("%v is stored", left)
	}
}

// When the reply is lost and the version moves before the next try, the first one may
// have stored it: what is still there is confirmed, and else nothing is said.
func TestEnqueueUnmovedLostReply(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{false, true} {
		f := setup(t)
		f.client.Set(t.Context(), versionOfAcme, "v1", 0)
		failures := countdown{n: 1}
		flaky := f.sibling()
		flaky.AddHook(&faultHook{pipeline: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
			err := next(ctx, cmds)
			if cmds[0].Err() != nil || !failures.take() {
				return err
			}
			f.client.Set(ctx, versionOfAcme, "v2", 0)
			if done { // a sender is fast
				f.client.Del(ctx, f.left()...)
			}
			for _, cmd := range cmds {
				cmd.SetErr(io.EOF)
			}
			return io.EOF
		}})
		p := f.comparing(flaky)
		errs, unmoved := p.EnqueueUnmoved(t.Context(), fanOut(event("evt_1", 0), 1), "acme", "v1")
		if !unmoved || (errs != nil) != done {
			t.Errorf("done: %t: %v, %t; want an error only if it is done, and never \"moved\"", done, errs, unmoved)
		}
		if done && (errors.Is(errs[0], core.ErrNotStored) || core.CodeOf(errs[0]) != core.CodeUnavailable) {
			t.Errorf("%v; want it to be unavailable, and perhaps stored", errs[0])
		}
	}
}
