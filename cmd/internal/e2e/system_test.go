package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// patience bounds every wait of these tests; it is long because machines are
// slow, not because Sealpost is.
const patience = 60 * time.Second

// system is a whole Sealpost: Redis, one gateway and one sender, and a
// certificate authority that the sender trusts.
type system struct {
	t       *testing.T
	redis   *redistest.Server
	ca      *authority
	env     map[string]string // settings of both programs
	gateway *process
	sender  *process
	api     string            // base URL of the API
	admin   map[string]string // base URL of each program's admin listener
}

// newSystem starts a Sealpost with further settings, and options of its Redis.
func newSystem(t *testing.T, settings map[string]string, options ...redistest.Option) *system {
	t.Helper()
	s := prepareSystem(t, settings, options...)
	s.startGateway()
	s.startSender()
	return s
}

// prepareSystem starts Redis only.
func prepareSystem(t *testing.T, settings map[string]string, options ...redistest.Option) *system {
	t.Helper()
	options = append([]redistest.Option{redistest.WithAppendOnly("everysec")}, options...)
	s := &system{t: t, redis: redistest.Start(t, options...), ca: newAuthority(t), admin: make(map[string]string)}
	s.env = map[string]string{
		"SEALPOST_REDIS_URL":    s.redis.URL(),
		"SEALPOST_LISTEN":       "127.0.0.1:0",
		"SEALPOST_ADMIN_LISTEN": "127.0.0.1:0",
		"SEALPOST_MASTER_KEYS":  newMasterKey(),
		"SEALPOST_ALLOW_NETS":   "127.0.0.0/8",
		"SEALPOST_RETRY_BASE":   "1s",
		"SEALPOST_RETRY_FACTOR": "2",
		"SEALPOST_LOG_LEVEL":    "debug",
		"SSL_CERT_FILE":         s.ca.file,
	}
	maps.Copy(s.env, settings)
	return s
}

func newMasterKey() string {
	var raw [32]byte
	rand.Read(raw[:])
	return "k1:" + base64.StdEncoding.EncodeToString(raw[:])
}

func (s *system) startGateway() {
	s.t.Helper()
	s.gateway = startProcess(s.t, "gateway", s.env, "serve")
	s.api = "http://" + s.gateway.listening("api listening")
	s.admin["gateway"] = "http://" + s.gateway.listening("admin listening")
	s.awaitReady("gateway")
}

func (s *system) startSender() {
	s.t.Helper()
	s.sender = startProcess(s.t, "sender", s.env, "serve")
	s.admin["sender"] = "http://" + s.sender.listening("admin listening")
	s.awaitReady("sender")
}

func (s *system) awaitReady(program string) {
	s.t.Helper()
	s.eventually(program+" is ready", func() bool {
		resp, err := http.Get(s.admin[program] + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// eventually waits until ok holds.
func (s *system) eventually(what string, ok func() bool) {
	s.t.Helper()
	s.eventuallyWithin(patience, what, ok)
}

func (s *system) eventuallyWithin(limit time.Duration, what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s", limit, what)
		}
		<-tick.C
	}
}

// command runs one of the gateway's commands against this system's Redis and
// returns what it printed.
func (s *system) command(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(binary("gateway"), args...)
	cmd.Env = []string{"SEALPOST_REDIS_URL=" + s.redis.URL()}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("gateway %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// client acts for one organization with one key.
type client struct {
	s   *system
	key string
}

// client makes a key through the command line and returns a client with it.
func (s *system) client(org, scopes string) *client {
	s.t.Helper()
	var made struct{ Key string }
	if err := json.Unmarshal([]byte(s.command("keys", "create", "--org", org, "--scopes", scopes, "--json")), &made); err != nil {
		s.t.Fatal(err)
	}
	return &client{s: s, key: made.Key}
}

// response is an answer of the API.
type response struct {
	status int
	header http.Header
	body   []byte
}

// decode reads the body into v.
func (r *response) decode(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("the answer %d %q is not the JSON expected: %v", r.status, r.body, err)
	}
}

// try sends a request; body is sent as it is. headers come in pairs.
func (c *client) try(method, path, body string, headers ...string) (*response, error) {
	req, err := http.NewRequest(method, c.s.api+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &response{status: resp.StatusCode, header: resp.Header, body: raw}, nil
}

// do is try for requests that must be answered with the given status.
func (c *client) do(status int, method, path, body string, headers ...string) *response {
	c.s.t.Helper()
	r, err := c.try(method, path, body, headers...)
	if err != nil {
		c.s.t.Fatalf("%s %s: %v", method, path, err)
	}
	if r.status != status {
		c.s.t.Fatalf("%s %s: %d %s, want %d", method, path, r.status, r.body, status)
	}
	return r
}

// endpoint is what the API says of an endpoint.
type endpoint struct {
	ID                  string   `json:"id"`
	URL                 string   `json:"url"`
	Events              []string `json:"events"`
	Description         string   `json:"description"`
	Enabled             bool     `json:"enabled"`
	SigningSecretPrefix string   `json:"signing_secret_prefix"`
	SigningSecret       string   `json:"signing_secret"`
	LastDeliveryAt      *string  `json:"last_delivery_at"`
	LastDeliveryStatus  *int     `json:"last_delivery_status"`
	Warning             string   `json:"_warning"`
}

// subscribe creates an endpoint for the given event types.
func (c *client) subscribe(url string, events ...string) *endpoint {
	c.s.t.Helper()
	body, err := json.Marshal(map[string]any{"url": url, "events": events})
	if err != nil {
		c.s.t.Fatal(err)
	}
	var e endpoint
	c.do(http.StatusCreated, "POST", "/api/v1/webhooks", string(body)).decode(c.s.t, &e)
	return &e
}

// publish posts an event and returns its id; it has to match n endpoints.
func (c *client) publish(n int, eventType, data string, headers ...string) string {
	c.s.t.Helper()
	var accepted struct {
		ID         string
		Deliveries int
	}
	c.do(http.StatusAccepted, "POST", "/api/v1/events", fmt.Sprintf(`{"type":%q,"data":%s}`, eventType, data), headers...).decode(c.s.t, &accepted)
	if accepted.Deliveries != n {
		c.s.t.Fatalf("the event %s has %d deliveries, want %d", accepted.ID, accepted.Deliveries, n)
	}
	return accepted.ID
}

// delivery is a row of an endpoint's log.
type delivery struct {
	ID             string  `json:"id"`
	Event          string  `json:"event"`
	Status         string  `json:"status"`
	ResponseStatus *int    `json:"response_status"`
	LatencyMS      int     `json:"latency_ms"`
	Attempt        int     `json:"attempt"`
	DeliveredAt    *string `json:"delivered_at"`
	EventID        string  `json:"event_id"`
	Error          *string `json:"error"`
	NextAttemptAt  *string `json:"next_attempt_at"`
}

// deliveries returns the newest attempts at an endpoint.
func (c *client) deliveries(endpoint string) []delivery {
	c.s.t.Helper()
	var list struct{ Data []delivery }
	c.do(http.StatusOK, "GET", "/api/v1/webhooks/"+endpoint+"/deliveries", "").decode(c.s.t, &list)
	return list.Data
}

// metric returns the sum of all samples of a metric whose labels contain each
// of the given texts, 0 where there are none.
func (s *system) metric(program, name string, labels ...string) float64 {
	s.t.Helper()
	resp, err := http.Get(s.admin[program] + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var sum float64
lines:
	for line := range strings.Lines(string(raw)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue lines
			}
		}
		var value float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &value); err != nil {
			s.t.Fatalf("metric line %q: %v", line, err)
		}
		sum += value
	}
	return sum
}
