package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/sign"
	"github.com/sealpost/sealpost/core/trial"
)

// fixture is a running server with a key for everything.
type fixture struct {
	t         *testing.T
	store     *stubStore
	publisher *stubPublisher
	server    *Server
	client    *http.Client
	key       string // admin and publish, organization acme
	stop      func() error
	logs      *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func testKeyring(t testing.TB) *sign.Keyring {
	t.Helper()
	ring, err := sign.ParseKeyring("k1:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// setup starts a server; adjust may change its options and the server itself
// before it serves.
func setup(t *testing.T, adjust ...any) *fixture {
	t.Helper()
	f := &fixture{t: t, store: newStubStore(), publisher: &stubPublisher{}, logs: &lockedBuffer{}}
	o := Options{
		Listen: "127.0.0.1:0", Store: f.store, Keys: f.store, Publisher: f.publisher, Keyring: testKeyring(t),
		CanonicalURL: func(raw string) (string, error) { return egress.CanonicalURL(raw, egress.URLPolicy{}) },
		Logger:       slog.New(slog.NewTextHandler(f.logs, nil)),
	}
	client, err := egress.New(egress.Options{AllowHTTP: true, AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	o.Tester = trial.New(client, f.store, testKeyring(t), nil)
	for _, a := range adjust {
		if change, ok := a.(func(*Options)); ok {
			change(&o)
		}
	}
	if f.server, err = New(o); err != nil {
		t.Fatalf("New: %v", err)
	}
	for _, a := range adjust {
		if change, ok := a.(func(*Server)); ok {
			change(f.server)
		}
	}
	f.key = f.store.addKey("acme", core.ScopeAdmin, core.ScopePublish)
	f.client = &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.server.Run(ctx) }()
	f.stop = sync.OnceValue(func() error {
		f.client.CloseIdleConnections()
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

// call sends a request with the fixture's key. headers are pairs.
func (f *fixture) call(method, path, body string, headers ...string) *answer {
	f.t.Helper()
	request, err := http.NewRequest(method, "http://"+f.server.Addr().String()+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+f.key)
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			request.Header.Del(headers[i])
		} else {
			request.Header.Set(headers[i], headers[i+1])
		}
	}
	return f.do(request)
}

func (f *fixture) do(request *http.Request) *answer {
	f.t.Helper()
	response, err := f.client.Do(request)
	if err != nil {
		f.t.Fatalf("%s %s: %v", request.Method, request.URL.Path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatalf("%s %s: read answer: %v", request.Method, request.URL.Path, err)
	}
	if response.Header.Get("X-Request-Id") == "" {
		f.t.Errorf("%s %s: no x-request-id", request.Method, request.URL.Path)
	}
	return &answer{t: f.t, what: request.Method + " " + request.URL.RequestURI(), Response: response, body: withoutBreak(f.t, body)}
}

// answer is a response with its body.
type answer struct {
	*http.Response
	t    *testing.T
	what string
	body string
}

// want fails the test unless the answer has this status and, if it is an error,
// this code and exactly these fields.
func (a *answer) want(status int, code core.Code, fields ...string) *answer {
	a.t.Helper()
	if a.StatusCode != status {
		a.t.Fatalf("%s: status %d, want %d; body %.300s", a.what, a.StatusCode, status, a.body)
	}
	if code == "" {
		if got := a.Header.Get("Content-Type"); got != jsonType {
			a.t.Errorf("%s: content-type %q", a.what, got)
		}
		return a
	}
	if got := a.Header.Get("Content-Type"); got != problemType {
		a.t.Errorf("%s: content-type %q", a.what, got)
	}
	var p problem
	a.decode(&p)
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Field)
		if e.Detail == "" {
			a.t.Errorf("%s: no detail about %s", a.what, e.Field)
		}
	}
	if p.Code != code || p.Status != status || !slices.Equal(got, fields) {
		a.t.Errorf("%s: code %q about %q, want %q about %q; body %.300s", a.what, p.Code, got, code, fields, a.body)
	}
	if p.Type != problemTypeURI+string(code) || p.Title == "" || p.Detail == "" || p.RequestID != a.Header.Get("X-Request-Id") {
		a.t.Errorf("%s: incomplete problem %.300s", a.what, a.body)
	}
	return a
}

func (a *answer) decode(v any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		a.t.Fatalf("%s: %v in %.300s", a.what, err, a.body)
	}
}

// detail fails the test unless the problem's detail contains part.
func (a *answer) detail(part string) *answer {
	a.t.Helper()
	var p problem
	a.decode(&p)
	if !strings.Contains(p.Detail, part) {
		a.t.Errorf("%s: detail %q does not contain %q", a.what, p.Detail, part)
	}
	return a
}

// dial opens a raw connection to the server, with a deadline that a hanging
// test does not reach.
func (f *fixture) dial() net.Conn {
	f.t.Helper()
	c, err := net.Dial("tcp", f.server.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

// withoutBreak returns the body without the line break that every answer ends
// with.
func withoutBreak(t testing.TB, body []byte) string {
	t.Helper()
	text, ok := strings.CutSuffix(string(body), "\n")
	if !ok && len(body) > 0 {
		t.Errorf("the answer %q does not end with a line break", body)
	}
	return text
}
