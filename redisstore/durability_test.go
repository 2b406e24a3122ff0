package redisstore

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// confirming returns a client of a server that asks for d.
func confirming(t *testing.T, server *redistest.Server, d Durability) redis.UniversalClient {
	t.Helper()
	at, err := ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := Open(at, ProfilePublish)
	t.Cleanup(func() { _ = client.Close() })
	if err := Confirm(client, d); err != nil {
		t.Fatal(err)
	}
	return client
}

// set writes a key unless it is there, in a pipeline as events are written.
func set(t *testing.T, client redis.UniversalClient, key string) error {
	t.Helper()
	pipe := client.Pipeline()
	cmd := pipe.SetArgs(t.Context(), key, "value", redis.SetArgs{Mode: "NX"})
	_, err := pipe.Exec(t.Context())
	if errors.Is(err, redis.Nil) && cmd.Err() == err {
		return nil // it is there
	}
	if (err == nil) != (cmd.Err() == nil) {
		t.Errorf("the pipeline returns %v and its command %v", err, cmd.Err())
	}
	return err
}

func TestFsync(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithAppendOnly("everysec"))
	own := server.Client(t)
	client := confirming(t, server, DurabilityFsync)
	store, err := New(Options{Client: confirming(t, server, DurabilityAsync), Durability: DurabilityFsync})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(key string) {
		t.Helper()
		if err := set(t, client, key); !errors.Is(err, ErrDurability) {
			t.Errorf("write: %v, want an ErrDurability", err)
		}
		if own.Exists(t.Context(), key).Val() != 0 {
			t.Error("it was written all the same")
		}
		if err := store.Check(t.Context()); !errors.Is(err, ErrDurability) {
			t.Errorf("check: %v, want an ErrDurability", err)
		}
	}
	refused("everysec")
	own.ConfigSet(t.Context(), "appendfsync", "always")
	own.ConfigSet(t.Context(), "no-appendfsync-on-rewrite", "yes")
	refused("not while the file is rewritten")
	own.ConfigSet(t.Context(), "no-appendfsync-on-rewrite", "no")
	if err := set(t, client, "always"); err != nil {
		t.Errorf("write: %v", err)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	server.Restart() // as it was configured at first
	own = server.Client(t)
	if own.Exists(t.Context(), "always").Val() != 1 {
		t.Error("what was confirmed is lost")
	}
	for err := error(nil); !errors.Is(err, ErrDurability); { // it may meet a connection that is dead first
		if err = set(t, client, "after a restart"); err == nil {
			t.Fatal("a write was confirmed by a Redis that was started anew, with everysec")
		}
	}
	refused("later")
}

// withReplica starts a server and one that follows it.
func withReplica(t *testing.T) (master, replica *redistest.Server) {
	t.Helper()
	master = redistest.Start(t, redistest.WithConfig("repl-diskless-sync-delay", "0"))
	host, port, err := net.SplitHostPort(master.Addr())
	if err != nil {
		t.Fatal(err)
	}
	replica = redistest.Start(t, redistest.WithConfig("replicaof", host, port))
	return master, replica
}

// awaitReplica writes a key until a replica confirms it: one that has just begun
// to follow takes a second.
func awaitReplica(t *testing.T, store *Store, client redis.UniversalClient, key string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := errors.Join(store.Check(t.Context()), set(t, client, key))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no replica within 30s: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestReplica(t *testing.T) {
	t.Parallel()
	master, replica := withReplica(t)
	own := master.Client(t)
	client := confirming(t, master, DurabilityReplica)
	store, err := New(Options{Client: own, Durability: DurabilityReplica, Confirmed: client})
	if err != nil {
		t.Fatal(err)
	}
	awaitReplica(t, store, client, "first")
	if replica.Client(t).Exists(t.Context(), "first").Val() != 1 {
		t.Error("the replica does not have what was confirmed")
	}

	replica.Pause()
	if err := set(t, client, "second"); !errors.Is(err, ErrDurability) {
		t.Errorf("write without a replica: %v, want an ErrDurability", err)
	}
	if own.Exists(t.Context(), "second").Val() != 1 {
		t.Error("the master does not have it")
	}
	if err := set(t, confirming(t, master, DurabilityReplica), "second"); !errors.Is(err, ErrDurability) {
		t.Errorf("repetition, which writes nothing: %v, want an ErrDurability: no replica has it", err)
	}
	if err := set(t, client, "third"); !errors.Is(err, ErrDurability) || own.Exists(t.Context(), "third").Val() != 0 {
		t.Errorf("write while nothing is confirmed: %v, want an ErrDurability and nothing written", err)
	}
	event := &core.Event{ID: "evt_1", Type: "lead.created", Body: []byte("{}"), AcceptedAt: time.Now()}
	d := core.Delivery{ID: "del_1", Organization: "acme", Endpoint: "ep", Event: event}
	if _, err := store.Park(t.Context(), []core.Parking{{Endpoint: d.Ref(), Deliveries: []core.Delivery{d}}}); core.CodeOf(err) != core.CodeUnavailable {
		t.Errorf("Park: %v, want that it is not confirmed", err)
	}
	if err := store.AddDeadLetters(t.Context(), []core.DeadLetter{{Delivery: d, Reason: core.ReasonDisabled, At: time.Now()}}); core.CodeOf(err) != core.CodeUnavailable {
		t.Errorf("AddDeadLetters: %v, want that it is not confirmed", err)
	}
	if err := store.CreateEndpoint(t.Context(), &core.Endpoint{Organization: "acme", ID: "ep"}, 10); core.CodeOf(err) != core.CodeUnavailable {
		t.Errorf("CreateEndpoint: %v, want that it is not confirmed", err)
	}

	replica.Resume()
	awaitReplica(t, store, client, "fourth")
	if err := store.CreateEndpoint(t.Context(), &core.Endpoint{Organization: "acme", ID: "ep"}, 10); err != nil {
		t.Errorf("CreateEndpoint: %v", err)
	}
}

func TestDurabilityValid(t *testing.T) {
	t.Parallel()
	single := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { _, _ = single.Close(), cluster.Close() })
	for _, d := range []Durability{"", DurabilityAsync, DurabilityFsync, DurabilityReplica} {
		if err := d.Valid(single); err != nil {
			t.Errorf("%q: %v", d, err)
		}
		if err := d.Valid(cluster); (err != nil) != (d == DurabilityReplica) {
			t.Errorf("%q in a Cluster: %v", d, err)
		}
	}
	if err := Durability("often").Valid(single); !errors.Is(err, ErrDurability) {
		t.Errorf(`"often": %v, want an ErrDurability`, err)
	}
}

// A connection to another database begins with a pipeline of its own, which must
// not wait for what only a connection can tell.
func TestDurabilityInAnotherDatabase(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithAppendOnly("always"))
	server.Client(t).ConfigSet(t.Context(), "no-appendfsync-on-rewrite", "no")
	for _, d := range []Durability{DurabilityFsync, DurabilityReplica} {
		at, err := ParseURL(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		at.DB, at.ClientName = 2, "sealpost"
		client := Open(at, ProfilePublish)
		t.Cleanup(func() { _ = client.Close() })
		if err := Confirm(client, d); err != nil {
			t.Fatal(err)
		}
		err = set(t, client, string(d))
		if d == DurabilityFsync && err != nil {
			t.Errorf("%s: %v", d, err)
		}
		if d == DurabilityReplica && err == nil {
			t.Errorf("%s: confirmed without a replica", d)
		}
		own := server.Client(t)
		if n := own.DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("%s: %d keys in database 0", d, n)
		}
	}
}

// An answer is given again only when it is confirmed where it is read: it may have
// been stored, with what it speaks of, by a gateway that never heard of a replica
// that has it.
func TestAnswersAreConfirmed(t *testing.T) {
	t.Parallel()
	master, replica := withReplica(t)
	own := master.Client(t)
	client := confirming(t, master, DurabilityReplica)
	store, err := New(Options{Client: own, Durability: DurabilityReplica, Confirmed: client})
	noError(t, err)
	awaitReplica(t, store, client, "first")
	a := reservation("k", "a", "body")
	begin(t, store, a)

	part := reservation("part", "a", "body")
	begin(t, store, part)
	endLease(t, own, "part")
	heir := reservation("part", "b", "body")

	replica.Pause()
	note(t, store, part, core.Delivery{Endpoint: "ep", Event: new(core.Event)}) // as a script does that stores a task
	if _, _, err := store.Begin(t.Context(), nil, []core.Reservation{heir}, core.Draws{}); core.CodeOf(err) != core.CodeUnavailable {
		t.Errorf("a note without a replica: %v, want %s", err, core.CodeUnavailable)
	}
	noError(t, store.Finish(t.Context(), []core.Reservation{a})) // as well
	if _, _, err := store.Begin(t.Context(), nil, []core.Reservation{a}, core.Draws{}); core.CodeOf(err) != core.CodeUnavailable {
		t.Errorf("without a replica: %v, want %s", err, core.CodeUnavailable)
	}
	fresh := reservation("l", "b", "body")
	if state := begin(t, store, fresh); state.Kind != core.ReservationGranted {
		t.Errorf("a new key without a replica: %+v, want it granted", state)
	}
	replica.Resume()
	awaitReplica(t, store, client, "second")
	answered := core.ReservationState{Kind: core.ReservationAnswered, Answer: a.Answer}
	if diff := cmp.Diff(answered, begin(t, store, a)); diff != "" {
		t.Errorf("with a replica (-want +got):\n%s", diff)
	}
	if state := begin(t, store, heir); state.Kind != core.ReservationTakenOver || len(state.Stored) != 1 {
		t.Errorf("a note with a replica: %+v, want it taken over with the note", state)
	}

	// A master that has taken over without the answer grants the claim again.
	successor := redistest.Start(t)
	store, err = New(Options{Client: own, Confirmed: successor.Client(t)})
	noError(t, err)
	if state := begin(t, store, a); state.Kind != core.ReservationGranted {
		t.Errorf("at another master: %+v, want it granted", state)
	}
}
