package trial

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/leaktest"
	"github.com/sealpost/sealpost/core/sign"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// records answers from a function.
type records func() (*core.Endpoint, error)

func (r records) Endpoint(context.Context, core.EndpointRef) (*core.Endpoint, error) { return r() }

func newTrier(t *testing.T, r records, now func() time.Time) (*Trier, *sign.Keyring) {
	t.Helper()
	ring, err := sign.ParseKeyring("k1:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	client, err := egress.New(egress.Options{AllowHTTP: true, AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return New(client, r, ring, now), ring
}

// TestNothingIsSentUnderAnOldRecord: the endpoint is read again once there is a
// connection, and what it says then holds.
func TestNothingIsSentUnderAnOldRecord(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	e := core.Endpoint{ID: core.NewEndpointID(), Organization: "acme", URL: server.URL, Enabled: true, URLRevision: 3}
	for name, tt := range map[string]struct {
		change func(e *core.Endpoint)
		err    error
		want   core.Code
		reason core.Reason
	}{
		"the same":        {func(*core.Endpoint) {}, nil, "", ""},
		"deleted":         {func(*core.Endpoint) {}, core.NotFound("webhook"), core.CodeNotFound, ""},
		"disabled":        {func(e *core.Endpoint) { e.Enabled = false }, nil, core.CodeConflict, ""},
		"moved":           {func(e *core.Endpoint) { e.URLRevision = 4 }, nil, core.CodeConflict, ""},
		"not read":        {func(*core.Endpoint) {}, errors.New("redis is away"), core.CodeUnavailable, ""},
		"another key":     {func(e *core.Endpoint) { e.Secrets[0].Hash = []byte{1} }, nil, "", core.ReasonSigningKey},
		"no valid secret": {func(e *core.Endpoint) { e.Secrets = nil }, nil, "", core.ReasonSigningKey},
	} {
		now := e
		trier, ring := newTrier(t, func() (*core.Endpoint, error) { return &now, tt.err }, nil)
		_, secret := ring.NewSecret(e.Ref(), 1, time.Now())
		now.Secrets = []core.Secret{secret}
		tt.change(&now)
		before := requests.Load()
		got, err := trier.Try(t.Context(), &e, &core.Event{ID: "evt_1", Body: []byte("{}")})
		if core.CodeOf(err) != tt.want || got.Reason != tt.reason {
			t.Errorf("%s: %+v, %v; want %q, %q", name, got, err, tt.want, tt.reason)
		}
		if sent := requests.Load() - before; (sent == 1) != (name == "the same") {
			t.Errorf("%s: %d requests", name, sent)
		}
	}
}

// TestSlowRead: a record that took too long to read is none.
func TestSlowRead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
	defer server.Close()
	var clock atomic.Int64
	e := core.Endpoint{ID: core.NewEndpointID(), Organization: "acme", URL: server.URL, Enabled: true}
	trier, ring := newTrier(t, func() (*core.Endpoint, error) {
		clock.Add(int64(core.RecordLifetime))
		return &e, nil
	}, func() time.Time { return time.Unix(0, clock.Load()) })
	_, secret := ring.NewSecret(e.Ref(), 1, time.Now())
	e.Secrets = []core.Secret{secret}
	if _, err := trier.Try(t.Context(), &e, &core.Event{ID: "evt_1", Body: []byte("{}")}); core.CodeOf(err) != core.CodeUnavailable {
		t.Errorf("error %v", err)
	}
}

func TestTrialsAreBounded(t *testing.T) {
	t.Parallel()
	trier, _ := newTrier(t, nil, nil)
	for range maxTrials {
		trier.places <- struct{}{}
	}
	if _, err := trier.Try(t.Context(), &core.Endpoint{URL: "http://127.0.0.1:1/"}, &core.Event{}); core.CodeOf(err) != core.CodeUnavailable {
		t.Errorf("error %v", err)
	}
}

func TestClassOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]core.AddressClass{
		"": "", "93.184.216.34": core.AddressPublic, "2606:2800::1": core.AddressPublic, "127.0.0.9": core.AddressLoopback, "::1": core.AddressLoopback,
		"100.64.0.1": core.AddressPrivate, "100.127.255.255": core.AddressPrivate, "100.128.0.1": core.AddressPublic, "198.18.0.1": core.AddressPrivate,
		"192.0.2.1": core.AddressPrivate, "203.0.113.9": core.AddressPrivate, "0.0.0.0": core.AddressPrivate, "240.0.0.1": core.AddressPrivate, "224.0.0.1": core.AddressPrivate,
		"64:ff9b::808:808": core.AddressPrivate, "2002:808:808::1": core.AddressPrivate, "2001:db8::1": core.AddressPrivate, "fec0::1": core.AddressPrivate, "168.63.129.16": core.AddressPrivate,
		"10.1.2.3": core.AddressPrivate, "fd00::1": core.AddressPrivate, "169.254.169.254": core.AddressLinkLocal, "fe80::1": core.AddressLinkLocal,
	} {
		addr, _ := netip.ParseAddr(address)
		if got := classOf(addr); got != want {
			t.Errorf("%q is %q, want %q", address, got, want)
		}
	}
}
