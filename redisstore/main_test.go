package redisstore

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/leaktest"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

var shared redistest.Shared

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m, shared.Stop)) }

// setup returns a store on an empty database of a real Redis, with a client to
// look behind it.
func setup(t *testing.T, options ...func(*Options)) (*Store, *redis.Client) {
	t.Helper()
	database := shared.Database(t)
	return newStore(t, database.URL(), options...), database.Client(t)
}

func newStore(t *testing.T, url string, options ...func(*Options)) *Store {
	t.Helper()
	at, err := ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Client: Open(at, ProfileStore), Registerer: prometheus.NewPedanticRegistry()}
	t.Cleanup(func() { o.Client.Close() })
	for _, option := range options {
		option(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// flavour is a server that the store has to work on.
type flavour struct {
	name string
	url  func(t *testing.T) string
}

func flavours() []flavour {
	return []flavour{
		{name: "redis", url: func(t *testing.T) string { return shared.Database(t).URL() }},
		{name: "miniredis", url: func(t *testing.T) string { return "redis://" + miniredis.RunT(t).Addr() }},
	}
}

// onBoth runs a test on Redis and on the embedded server of `gateway dev`.
func onBoth(t *testing.T, test func(t *testing.T, s *Store), options ...func(*Options)) {
	t.Helper()
	for _, f := range flavours() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			test(t, newStore(t, f.url(t), options...))
		})
	}
}

// instant is a time that survives Redis unchanged.
func instant(seconds int) time.Time {
	return time.UnixMilli(1_764_000_000_123).UTC().Add(time.Duration(seconds) * time.Second)
}

func endpoint(organization string, n int) *core.Endpoint {
	return &core.Endpoint{
		ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Organization: organization,
		URL: fmt.Sprintf("https://host%d.example.com/hook?a=1&b=<2>", n), EventTypes: []string{"call.received", "lead.created"},
		Description: "Production \u00fc", Enabled: true, CreatedAt: instant(n),
		Secrets: []core.Secret{{KID: "k1", Version: 1, Salt: []byte{1, 2}, Hash: []byte{3, 4}, Prefix: "whsec_abcdef", CreatedAt: instant(n)}},
	}
}

// wantCode fails unless err has the code.
func wantCode(t *testing.T, err error, code core.Code) {
	t.Helper()
	if got := core.CodeOf(err); got != code {
		t.Fatalf("error %v has code %q; want %q", err, got, code)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
