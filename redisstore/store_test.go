package redisstore

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// everything calls every method of the store once, as a request would, and
// returns the errors by name.
func everything(ctx context.Context, s *Store) map[string]error {
	e := endpoint("acme", 1)
	errs := make(map[string]error)
	errs["CreateEndpoint"] = s.CreateEndpoint(ctx, e, 10)
	_, errs["Endpoint"] = s.Endpoint(ctx, e.Ref())
	_, _, errs["Endpoints"] = s.Endpoints(ctx, "acme")
	_, errs["UpdateEndpoint"] = s.UpdateEndpoint(ctx, e.Ref(), func(*core.Endpoint) error { return nil })
	_, errs["Records"] = s.Records(ctx, []core.EndpointRef{e.Ref(), endpoint("other", 2).Ref()})
	mark := core.Mark{DoneKey: "sp:{deliver-00}:bundle:x:done", BlobKey: "sp:{deliver-00}:bundle:x", Size: 2, TTL: time.Hour, Indexes: []int{0}}
	rows := []core.Attempt{attempt(e.ID, 1, core.StatusFailed), attempt("another", 2, core.StatusDelivered)}
	delivered := parcels(core.EndpointRef{Organization: "acme", ID: "another"}, 2, 10)
	errs["Record"] = s.Record(ctx, core.Record{Attempts: rows, Kept: delivered, Marks: []core.Mark{mark}})
	_, errs["FindKept"] = s.FindKept(ctx, delivered[0].Ref(), delivered[0].ID)
	mark.All = true
	errs["Record repeated"] = s.Record(ctx, core.Record{Attempts: rows, Marks: []core.Mark{mark}, Repeated: true})
	_, errs["Attempts"] = s.Attempts(ctx, e.ID, false)
	_, errs["LastAttempts"] = s.LastAttempts(ctx, []string{e.ID, "another"})
	errs["AddDeadLetters"] = s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter(e.ID, 1, 10), deadLetter("another", 2, 10)})
	recoveries(ctx, s, e.Ref(), errs)
	_, errs["EventTrails"] = s.EventTrails(ctx, []string{e.ID, "another"}, "evt_1")
	_, errs["AllowTrail"] = s.AllowTrail(ctx, "acme", 2)
	_, errs["AllowTest"] = s.AllowTest(ctx, "acme")
	rs := []core.Reservation{reservation("k", "a", "body"), reservation("l", "a", "body")}
	_, _, errs["Begin"] = s.Begin(ctx, []string{"acme", "other"}, rs, core.Draws{Quota: slow(10), Requests: []core.Draw{events("acme", 1), events("other", 1)}})
	errs["Finish"] = s.Finish(ctx, rs)
	errs["Release"] = s.Release(ctx, rs)
	errs["CreateAPIKey"] = s.CreateAPIKey(ctx, [32]byte{1}, apiKey("acme", "key_1", 1))
	_, errs["APIKey"] = s.APIKey(ctx, [32]byte{1})
	_, errs["APIKeys"] = s.APIKeys(ctx, "")
	errs["RevokeAPIKey"] = s.RevokeAPIKey(ctx, "key_1")
	backlogs(ctx, s, e.Ref(), errs)
	errs["DeleteEndpoint"] = s.DeleteEndpoint(ctx, e.Ref())
	errs["ForgetEndpoint"] = s.ForgetEndpoint(ctx, e.Ref())
	errs["Check"] = s.Check(ctx)
	errs["announce"] = s.announce(ctx, Process{ID: "p1"})
	_, _, errs["Processes"] = s.Processes(ctx)
	_, errs["Servers"] = s.Servers(ctx)
	_, _, errs["SampleAPIKeys"] = s.SampleAPIKeys(ctx, 3)
	_, errs["SampleEndpoints"] = s.SampleEndpoints(ctx, []string{"acme", "other"}, 3)
	return errs
}

// recoveries is the part of everything that is about dead letters coming back.
func recoveries(ctx context.Context, s *Store, ref core.EndpointRef, errs map[string]error) {
	letters, _, err := s.DeadLetters(ctx, ref, "", 1)
	errs["DeadLetters"] = err
	_, errs["ReadDeadLetters"] = s.ReadDeadLetters(ctx, ref, core.LetterRange{}, 1)
	_, errs["FindDeadLetters"] = s.FindDeadLetters(ctx, ref, []string{"whd_1", "whd_2"})
	r := &core.Recovery{ID: "rec_1", Endpoint: ref}
	errs["StartRecovery"] = s.StartRecovery(ctx, r)
	_, errs["Recovery"] = s.Recovery(ctx, ref, r.ID)
	_, _, errs["ClaimRecovery"] = s.ClaimRecovery(ctx)
	errs["DeferRecovery"] = s.DeferRecovery(ctx, r, 0)
	r.State = core.RecoveryDone
	_, errs["StepRecovery"] = s.StepRecovery(ctx, r, []string{"1-1"})
	entries := []string{"1-1"}
	for _, l := range letters {
		entries = append(entries, l.Entry)
	}
	again := core.Parking{Endpoint: ref, Deliveries: parcels(ref, len(entries), 10)}
	_, _, errs["Replay"] = s.Replay(ctx, again, entries)
	errs["RemoveReplayed"] = s.RemoveReplayed(ctx, ref, entries)
	_, errs["ClearDeadLetters"] = s.ClearDeadLetters(ctx, ref)
}

// backlogs is the part of everything that is about the backlog of an endpoint.
func backlogs(ctx context.Context, s *Store, ref core.EndpointRef, errs map[string]error) {
	failing := core.Condition{State: core.StateFailing, Since: instant(1), Until: instant(2)}
	_, errs["Park"] = s.Park(ctx, []core.Parking{{Endpoint: ref, Condition: failing, Failing: instant(1), Deliveries: parcels(ref, 3, 10)}})
	errs["AwaitBacklogs"] = s.AwaitBacklogs(ctx, time.Second)
	errs["AwaitBacklogs shortly"] = s.AwaitBacklogs(ctx, time.Millisecond)
	claim := core.Claim{Endpoint: ref, Owner: "nobody"}
	claims, _, err := s.ClaimBacklogs(ctx, 10)
	errs["ClaimBacklogs"] = err
	if len(claims) > 0 {
		claim = claims[0]
	}
	_, errs["HoldClaim"] = s.HoldClaim(ctx, claim)
	waiting, err := s.Backlog(ctx, ref, "", 10)
	errs["Backlog"] = err
	errs["Record drained"] = s.Record(ctx, core.Record{Drained: core.Drained{Endpoint: ref, Entries: append(waiting, core.Waiting{Entry: "1-1", Size: 1})}})
	_, errs["RaiseWarning"] = s.RaiseWarning(ctx, ref, 50)
	_, errs["Standings"] = s.Standings(ctx, []core.EndpointRef{ref, {Organization: "other", ID: "x"}})
	_, errs["BacklogOverview"] = s.BacklogOverview(ctx)
	errs["LookAt"] = s.LookAt(ctx, ref, true)
	errs["NoteRecovered"] = s.NoteRecovered(ctx, []core.EndpointRef{ref})
	_, errs["ReleaseClaim"] = s.ReleaseClaim(ctx, core.Release{Claim: claim, OnlyEmpty: true})
}

func TestEverythingWorks(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		for name, err := range everything(t.Context(), s) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestEverythingWorksInACluster(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("cluster-enabled", "yes"))
	ctx := t.Context()
	noError(t, server.Client(t).ClusterAddSlotsRange(ctx, 0, 16383).Err())
	options, err := ParseURL(server.URL())
	noError(t, err)
	options.IsClusterMode = true
	client := Open(options, ProfileStore)
	defer client.Close()
	awaitCluster(t, server.Client(t))
	s, err := New(Options{Client: client, PayloadRetention: time.Hour})
	noError(t, err)
	if s.ordered {
		t.Error("pipelines to a Cluster are taken to be in order")
	}
	for name, err := range everything(ctx, s) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The client may send a Record again by itself.
	row := core.Record{Attempts: []core.Attempt{attempt("twice", 1, core.StatusFailed)}}
	for range 2 {
		noError(t, s.Record(ctx, row))
	}
	for _, failures := range []bool{false, true} {
		if rows, err := s.Attempts(ctx, "twice", failures); err != nil || len(rows) != 1 {
			t.Errorf("a Record that was sent twice made %d rows, %v", len(rows), err)
		}
	}
	s.sample(ctx)
	if used := testutil.ToFloat64(s.metrics.memoryUsed); used == 0 {
		t.Error("nothing is known of the memory of a Cluster")
	}
}

func awaitCluster(t *testing.T, client *redis.Client) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !strings.Contains(client.ClusterInfo(t.Context()).Val(), "cluster_state:ok") {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatal("the Cluster does not come up")
		}
	}
}

func TestUnansweredCallsAreUnavailable(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		stop func(*redistest.Server)
	}{
		{name: "killed", stop: (*redistest.Server).Kill},
		{name: "frozen", stop: (*redistest.Server).Pause},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			s := newStore(t, server.URL(), keeping(time.Hour))
			noError(t, s.Check(t.Context()))
			tt.stop(server)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			for name, err := range everything(ctx, s) {
				if core.CodeOf(err) != core.CodeUnavailable {
					t.Errorf("%s: %v; want an unavailable error", name, err)
				}
			}
			for _, o := range ops() {
				if n := testutil.ToFloat64(s.metrics.errors[o]); n == 0 && o != opReadMemory && o != opEnqueue && o != opQueue { // those are Instrument's
					t.Errorf("no failure of %s was counted", o)
				}
			}
		})
	}
}

func TestFullRedisIsUnavailable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.URL()), server.Client(t)
	ctx := t.Context()
	e := endpoint("acme", 1)
	noError(t, s.CreateEndpoint(ctx, e, 10))
	r := reservation("k", "a", "body")
	noError(t, client.Set(ctx, "sp:{q}:bundle:x", "blob", 0).Err())
	limitMemory(t, client, 2)

	_, _, err := s.Begin(ctx, []string{"acme"}, []core.Reservation{r}, core.Draws{})
	wantCode(t, err, core.CodeUnavailable)
	wantCode(t, s.CreateEndpoint(ctx, endpoint("acme", 2), 10), core.CodeUnavailable)
	mark := core.Mark{DoneKey: "sp:{q}:bundle:x:done", BlobKey: "sp:{q}:bundle:x", Size: 1, TTL: time.Hour, All: true}
	wantCode(t, s.Record(ctx, core.Record{Marks: []core.Mark{mark}}), core.CodeUnavailable)
	if n := client.Exists(ctx, mark.BlobKey).Val(); n != 1 {
		t.Error("the bundle's blob is gone although Redis refused the bitmap")
	}
	if _, _, err := s.Endpoints(ctx, "nobody"); err != nil {
		t.Errorf("reading from a full Redis: %v", err)
	}
	noError(t, s.DeleteEndpoint(ctx, e.Ref())) // frees memory
}

func TestScriptsThatRedisForgot(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.URL(), keeping(time.Hour)), server.Client(t)
	ctx := t.Context()
	for range 3 {
		for name, err := range everything(ctx, s) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		noError(t, client.FlushAll(ctx).Err())
		noError(t, client.ScriptFlush(ctx).Err())
	}
}

func TestOnlyScriptsThatRedisForgotRunAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL())
	ctx := t.Context()
	count := redis.NewScript(`return redis.call('INCR', KEYS[1])`)
	source := `return redis.call('INCR', KEYS[1])`
	b := s.batch()
	first := b.run(ctx, count, []string{"n"})
	b.ScriptLoad(ctx, source)
	missing := b.Get(ctx, "nothing")
	second := b.run(ctx, count, []string{"n"})
	third := b.run(ctx, count, []string{"n"})
	noError(t, b.exec(ctx))
	var got []int64
	for _, reply := range []*redis.Cmd{first, second, third} {
		n, err := reply.Int64()
		noError(t, err)
		got = append(got, n)
	}
	if diff := cmp.Diff([]int64{3, 1, 2}, got); diff != "" {
		t.Errorf("replies (-want +got):\n%s", diff)
	}
	if missing.Err() != redis.Nil {
		t.Errorf("a missing value: %v; want redis.Nil", missing.Err())
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	for _, o := range []Options{{}, {Client: client, MaxDeadLetters: -1}, {Client: client, MaxDeadLetterBytes: -1}, {Client: client, PayloadRetention: -1}, {Client: client, MaxKept: -1}, {Client: client, MaxKeptBytes: -1}, {Client: client, MaxBacklog: -1}, {Client: client, MaxBacklogBytes: -1}, {Client: client, DeadLetterRetention: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v) succeeded", o)
		}
	}
	registry := prometheus.NewPedanticRegistry()
	for range 2 { // two stores of a process share their metrics
		s, err := New(Options{Client: client, Registerer: registry})
		noError(t, err)
		s.metrics.failed(opBegin)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	want := "# HELP sealpost_redis_memory_max_bytes The limit of the fullest Redis master: its maxmemory, or the memory of its machine if that is not set; 0: unknown.\n" +
		"# TYPE sealpost_redis_memory_max_bytes gauge\nsealpost_redis_memory_max_bytes 0\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sealpost_redis_memory_max_bytes"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "sealpost_redis_errors_total"); err != nil || n != len(ops()) {
		t.Errorf("%d error counters, %v; want %d from the start", n, err, len(ops()))
	}
	taken := prometheus.NewRegistry()
	taken.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "sealpost_redis_errors_total", Help: "x"}))
	if _, err := New(Options{Client: client, Registerer: taken}); err == nil {
		t.Error("a name that is taken by another metric was no error")
	}
}
