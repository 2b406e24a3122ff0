package sender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/sign"
)

// receiver is a real HTTP server that verifies what it gets.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	received map[string]int // by webhook-id
	bad      []error
}

// newReceiver answers with answer after verifying the request with the secret
// that secret returns.
func newReceiver(t *testing.T, secret func() string, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{received: make(map[string]int)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			var key []byte
			if key, err = sign.ParseSecret(secret()); err == nil {
				err = sign.Verify([][]byte{key}, req.Header.Get, body, time.Now(), sign.DefaultTolerance)
			}
		}
		r.mu.Lock()
		r.received[req.Header.Get("webhook-id")]++
		if err != nil {
			r.bad = append(r.bad, err)
		}
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func newEgress(t *testing.T) *egress.Client {
	t.Helper()
	c, err := egress.New(egress.Options{
		AllowHTTP: true, AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestOverRealConnections(t *testing.T) {
	t.Parallel()
	const n = 100
	f := newFixture(t, func(o *Options) { o.Client = newEgress(t) })
	ref := f.endpoint(1)
	r := newReceiver(t, func() string { return f.secrets[ref] }, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.Header.Get("webhook-id"), "7") {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	f.store.set(ref, func(e *core.Endpoint) { e.URL = r.URL + "/hook?x=1" })
	began := time.Now()
	if err := f.Handle(context.Background(), f.bundle(repeat(ref, n)...)); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.bad {
		t.Errorf("the receiver could not verify: %v", err)
	}
	for i := range n {
		if got := r.received[fmt.Sprintf("evt_%03d", i)]; got != 1 {
			t.Errorf("event %d came %d times", i, got)
		}
	}
	if got := len(f.queue.retries()); got != n/10 {
		t.Errorf("%d retries; want %d", got, n/10)
	}
	for _, d := range f.queue.retries() {
		earliest, latest := began.Add(5*time.Second), time.Now().Add(5*time.Second+time.Millisecond)
		if d.Due.Before(earliest) || d.Due.After(latest) {
			t.Errorf("a retry is due at %v; want the 5 s of the schedule: %v to %v", d.Due, earliest, latest)
		}
	}
	f.checkMarked(n)
	f.checkIdle()
}

func TestFailuresOverRealConnections(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer http.HandlerFunc
		url    string // instead of the receiver's
		reason core.Reason
		status int
	}{
		{name: "redirect", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(http.StatusFound)
		}, reason: core.ReasonRedirect, status: 302},
		{name: "closed", answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, reason: core.ReasonConnectionLost},
		{name: "silent", answer: func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, reason: core.ReasonTimeout},
		{name: "refused", url: "http://127.0.0.1:1/", reason: core.ReasonConnect},
		{name: "blocked", url: "http://10.0.0.1/", reason: core.ReasonBlocked},
		{name: "gone", answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, reason: core.ReasonStatus410, status: 410},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, func(o *Options) {
				o.Client = newEgress(t)
				o.DeliveryTimeout = 2 * time.Second
			})
			ref := f.endpoint(1)
			if tt.url == "" {
				tt.url = newReceiver(t, func() string { return f.secrets[ref] }, tt.answer).URL
			}
			f.store.set(ref, func(e *core.Endpoint) { e.URL = tt.url })
			if err := f.Handle(context.Background(), f.bundle(ref)); err != nil {
				t.Fatal(err)
			}
			rows := f.store.rows()
			if len(rows) != 1 || rows[0].Reason != tt.reason || rows[0].ResponseStatus != tt.status || rows[0].Number != 1 {
				t.Errorf("rows = %+v; want reason %s, status %d", rows, tt.reason, tt.status)
			}
			f.checkMarked(1)
		})
	}
}

// The endpoint is deleted, and the API's delay passes, between the connection
// and the first byte of the request: the receiver sees nothing.
func TestDeletionBeforeFirstByteOverRealConnections(t *testing.T) {
	t.Parallel()
	client := newEgress(t)
	f := newFixture(t, func(o *Options) { o.Client = client })
	ref := f.endpoint(1)
	r := newReceiver(t, func() string { return f.secrets[ref] }, func(http.ResponseWriter, *http.Request) {})
	f.store.set(ref, func(e *core.Endpoint) { e.URL = r.URL })
	f.Sender.client = &pausingPoster{Client: client, pause: func() {
		f.store.delete(ref)
		time.Sleep(core.ChangeDelay)
	}}
	if err := f.Handle(context.Background(), f.bundle(ref)); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.received) != 0 {
		t.Errorf("received %v; want nothing", r.received)
	}
	checkValue(t, f.reg, "sealpost_sender_deliveries_total", "discarded", 1)
}

// pausingPoster pauses between the connection and the composition.
type pausingPoster struct {
	*egress.Client
	pause func()
}

func (p *pausingPoster) Post(ctx context.Context, began time.Time, timeout time.Duration, t *egress.Target, compose egress.Compose) egress.Result {
	return p.Client.Post(ctx, began, timeout, t, func(m *egress.Message) error {
		p.pause()
		return compose(m)
	})
}

// A closed client is no failure of the endpoint: the task comes back.
func TestClosedClient(t *testing.T) {
	t.Parallel()
	client := newEgress(t)
	client.Close()
	f := newFixture(t, func(o *Options) { o.Client = client })
	err := f.Handle(context.Background(), f.bundle(f.endpoint(1)))
	if !errors.Is(err, egress.ErrClosed) {
		t.Errorf("Handle = %v; want %v", err, egress.ErrClosed)
	}
	if len(f.store.rows()) != 0 {
		t.Errorf("rows = %+v; want none", f.store.rows())
	}
	f.checkIdle()
}
