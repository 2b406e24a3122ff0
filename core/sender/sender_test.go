package sender

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/leaktest"
	"github.com/sealpost/sealpost/core/retry"
	"github.com/sealpost/sealpost/core/sign"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

const testOrg = "acme"

// fixture is a Sender among stubs.
type fixture struct {
	*Sender
	t       *testing.T
	store   *stubStore
	told    *stubAnnouncer
	queue   *stubQueue
	poster  *stubPoster
	trace   *trace
	reg     *prometheus.Registry
	logs    *syncBuffer
	keyring *sign.Keyring
	secrets map[core.EndpointRef]string // the current secret, as shown once
}

func testKeyring(t testing.TB, kid string) *sign.Keyring {
	t.Helper()
	sum := sha256.Sum256([]byte(kid + t.Name()))
	k, err := sign.ParseKeyring(kid + ":" + base64.StdEncoding.EncodeToString(sum[:]))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testSchedule() retry.Schedule {
	return retry.Schedule{Base: 5 * time.Second, Factor: 4, Cap: time.Hour, MaxAttempts: 5}
}

// newFixture returns a Sender whose jitter is always the middle: waits are
// exactly those of the schedule. change may alter the options.
func newFixture(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	tr := &trace{}
	f := &fixture{
		t: t, trace: tr, reg: prometheus.NewPedanticRegistry(), logs: &syncBuffer{}, keyring: testKeyring(t, "k1"),
		told:    &stubAnnouncer{},
		store:   &stubStore{stubBacklogs: newStubBacklogs(), trace: tr, endpoints: make(map[core.EndpointRef]core.Endpoint), dead: make(map[string]core.DeadLetter)},
		queue:   &stubQueue{trace: tr, retried: make(map[string]core.Delivery)},
		poster:  &stubPoster{},
		secrets: make(map[core.EndpointRef]string),
	}
	o := Options{
		Store: f.store, Queue: f.queue, Client: f.poster, Keyring: f.keyring,
		Announcer: f.told,
		Schedule:  testSchedule(), DeliveryTimeout: 15 * time.Second, Concurrency: 128,
		Logger:     slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: f.reg, Rand: func() float64 { return 0.5 },
	}
	if change != nil {
		change(&o)
	}
	var err error
	if f.Sender, err = New(o); err != nil {
		t.Fatal(err)
	}
	return f
}

// endpoint adds an endpoint, one that holds nothing while it is disabled, and
// returns its name.
func (f *fixture) endpoint(n int) core.EndpointRef {
	ref := core.EndpointRef{Organization: testOrg, ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n)}
	secret, record := f.keyring.NewSecret(ref, 1, time.Now())
	f.secrets[ref] = secret
	f.store.endpoints[ref] = core.Endpoint{
		ID: ref.ID, Organization: ref.Organization, URL: fmt.Sprintf("https://e%d.example.com/hook", n),
		EventTypes: []string{"lead.created"}, Enabled: true, Drop: true, CreatedAt: time.Now(), Revision: 1, URLRevision: 1,
		Secrets: []core.Secret{record},
	}
	return ref
}

// bundle returns a bundle of one fresh delivery for each ref.
func (f *fixture) bundle(refs ...core.EndpointRef) *core.Bundle {
	b := &core.Bundle{
		ID: "bundle", Queue: "deliver-00", Settled: make([]bool, len(refs)),
		Mark: core.Mark{DoneKey: "done", BlobKey: "blob", Size: len(refs), TTL: 2 * time.Hour},
	}
	for i, ref := range refs {
		b.Deliveries = append(b.Deliveries, core.Delivery{
			ID: fmt.Sprintf("whd_%03d", i), Organization: ref.Organization, Endpoint: ref.ID,
			Event: &core.Event{
				ID: fmt.Sprintf("evt_%03d", i), Type: "lead.created", AcceptedAt: time.Now(),
				Body: fmt.Appendf(nil, `{"type":"lead.created","data":%d}`, i),
			},
		})
	}
	return b
}

// repeat returns n times ref.
func repeat(ref core.EndpointRef, n int) []core.EndpointRef {
	return slices.Repeat([]core.EndpointRef{ref}, n)
}

// checkMarked fails unless each of n deliveries is marked exactly once and the
// last mark says that all are.
func (f *fixture) checkMarked(n int) {
	f.t.Helper()
	times, all := f.store.marked()
	if !all {
		f.t.Error("the last mark does not say that all are settled")
	}
	for i := range n {
		if times[i] != 1 {
			f.t.Errorf("delivery %d is marked %d times; want once", i, times[i])
		}
	}
	if len(times) != n {
		f.t.Errorf("%d deliveries are marked; want %d", len(times), n)
	}
}

// checkIdle fails if a slot was not given back.
func (f *fixture) checkIdle() {
	f.t.Helper()
	if n := f.slots.inUse(); n != 0 {
		f.t.Errorf("%d slots of the process are still taken", n)
	}
	if n := len(f.limits.gates); n != 0 {
		f.t.Errorf("%d endpoints still have slots taken", n)
	}
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
