package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// look asks a program's admin listener.
func (s *system) look(program, path string) (status int, contentType, body string) {
	s.t.Helper()
	resp, err := http.Get(s.admin[program] + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)
}

// TestReadiness: a process whose Redis is away, or would forget, is alive but
// not ready.
func TestReadiness(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	both := []string{"gateway", "sender"}
	expect := func(want int, says string) {
		t.Helper()
		for _, program := range both {
			s.eventually(program+" answers "+says, func() bool {
				status, contentType, body := s.look(program, "/readyz")
				var answer struct {
					Status string
					Checks map[string]string
				}
				if err := json.Unmarshal([]byte(body), &answer); err != nil || contentType != "application/json" {
					t.Fatalf("/readyz is answered with %s %q", contentType, body)
				}
				if (answer.Status == "ready") != (status == http.StatusOK) || (answer.Checks["redis"] == "ok") != (status == http.StatusOK) {
					t.Errorf("status %d with %s", status, body)
				}
				return status == want && strings.Contains(body, says)
			})
			if status, _, body := s.look(program, "/healthz"); status != http.StatusOK || body != "ok\n" {
				t.Errorf("/healthz of %s: %d %q", program, status, body)
			}
		}
	}
	expect(http.StatusOK, "ready")

	redis := s.redis.Client(t)
	set := func(directive, value string) {
		t.Helper()
		if err := redis.ConfigSet(t.Context(), directive, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("maxmemory-policy", "allkeys-lru") // without a limit nothing is ever evicted
	expect(http.StatusOK, "ready")
	set("maxmemory", "512mb")
	expect(http.StatusServiceUnavailable, "noeviction")
	set("maxmemory-policy", "noeviction")
	expect(http.StatusOK, "ready")

	s.redis.Kill()
	expect(http.StatusServiceUnavailable, "redis")
	s.redis.Restart()
	expect(http.StatusOK, "ready")
	// And it works again, without anybody's help.
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	acme.subscribe(r.url(), "call.qualified")
	acme.publish(1, "call.qualified", `1`)
	r.await(1)

	for _, program := range both {
		if status, _, _ := s.look(program, "/debug/pprof/goroutine?debug=1"); status != http.StatusOK {
			t.Errorf("/debug/pprof/ of %s: %d", program, status)
		}
		if status, _, _ := s.look(program, "/api/v1/webhooks"); status != http.StatusNotFound {
			t.Errorf("the admin listener of %s answers for the API: %d", program, status)
		}
	}
}

var (
	sample    = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? \S+$`)
	labelPair = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// TestMetrics: after traffic of every kind the metrics are in order, and tell
// nothing about a customer.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "1"})
	acme := s.client("acmecorp", "admin,publish")
	r := newReceiver(t, s.ca, func(n int, _ *received, w http.ResponseWriter) {
		if n%2 == 0 {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	e := acme.subscribe(r.url(), "call.qualified")
	acme.publish(1, "call.qualified", `1`)
	r.await(1)
	id := acme.publish(1, "call.qualified", `2`)
	acme.batch(`[{"type":"call.qualified","data":1},{"type":"nonsense","data":1}]`)
	acme.do(http.StatusNotFound, "GET", "/api/v1/webhooks/"+e.ID+"/made-up-path", "")
	if _, err := acme.try("BREW", "/api/v1/webhooks", ""); err != nil {
		t.Fatal(err)
	}
	r.await(3)
	s.awaitIdle()
	private := regexp.MustCompile("acmecorp|" + e.ID + "|" + id + "|" + regexp.QuoteMeta(strings.TrimPrefix(r.server.URL, "https://")) + "|made-up|BREW|nonsense|" + regexp.QuoteMeta(acme.key))
	const each = 480 // series of one metric: 36 operations of Redis in 11 buckets and more to come

	for program, wanted := range map[string][]string{
		"gateway": {
			"sealpost_build_info", "sealpost_gateway_requests_total", "sealpost_gateway_request_duration_seconds_bucket", "sealpost_events_accepted_total", "sealpost_events_rejected_total",
			"sealpost_deliveries_accepted_total", "sealpost_flush_events_bucket", "sealpost_flush_duration_seconds_bucket", "sealpost_redis_errors_total", "go_goroutines", "process_cpu_seconds_total",
			"sealpost_gateway_key_lookups_total", "sealpost_redis_operation_duration_seconds_bucket", "sealpost_queue_bundle_bytes_bucket",
			"sealpost_queue_tasks", "sealpost_queue_consumers", // without a sender somebody has to tell
		},
		"sender": {
			"sealpost_build_info", "sealpost_sender_attempts_total", "sealpost_sender_attempt_failures_total", "sealpost_sender_attempt_duration_seconds_bucket", "sealpost_sender_delivery_latency_seconds_bucket",
			"sealpost_sender_deliveries_total", "sealpost_sender_in_flight", "sealpost_dead_letters_total", "sealpost_sender_key_mismatches_total", "sealpost_sender_connections_total",
			"sealpost_queue_tasks", "sealpost_queue_oldest_pending_seconds", "sealpost_redis_errors_total",
			"sealpost_sender_attempt_phase_duration_seconds_bucket", "sealpost_sender_schedule_lag_seconds_bucket", "sealpost_queue_overdue_seconds", "sealpost_queue_lease_expired_seconds",
		},
	} {
		status, contentType, text := s.look(program, "/metrics")
		if status != http.StatusOK || !strings.HasPrefix(contentType, "text/plain") {
			t.Fatalf("/metrics of %s: %d %s", program, status, contentType)
		}
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatalf("/metrics of %s cannot be parsed: %v", program, err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", program, p.Metric, p.Text)
		}
		if found := private.FindAllString(text, -1); found != nil {
			t.Errorf("the metrics of %s tell %v", program, found)
		}
		series := make(map[string]int)
		for line := range strings.Lines(text) {
			m := sample.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
			if m == nil {
				continue
			}
			series[m[1]]++
			for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
				if slices.Contains([]string{"endpoint", "organization", "org", "url", "host", "event_id", "delivery"}, pair[1]) {
					t.Errorf("%s has a label %s, which may take any number of values", m[1], pair[1])
				}
			}
		}
		for _, name := range wanted {
			if series[name] == 0 {
				t.Errorf("the metrics of %s lack %s", program, name)
			}
		}
		for name, n := range series {
			if n > each && strings.HasPrefix(name, "sealpost_") {
				t.Errorf("%s of %s has %d series", name, program, n)
			}
		}
	}
	for _, want := range []struct {
		program, name string
		labels        []string
		value         float64
	}{
		{"gateway", "sealpost_events_accepted_total", nil, 3},
		{"gateway", "sealpost_deliveries_accepted_total", nil, 3},
		{"gateway", "sealpost_gateway_requests_total", []string{`code="404"`}, 1},
		{"gateway", "sealpost_gateway_requests_total", []string{`code="405"`}, 1},
		{"sender", "sealpost_sender_deliveries_total", []string{`status="delivered"`}, 2},
		{"sender", "sealpost_sender_deliveries_total", []string{`status="failed"`}, 1},
		{"sender", "sealpost_sender_attempt_failures_total", []string{`reason="status_4xx"`}, 1},
		{"sender", "sealpost_sender_in_flight", nil, 0},
		{"sender", "sealpost_sender_key_mismatches_total", nil, 0},
		{"sender", "sealpost_queue_tasks", []string{`state="archived"`}, 0},
		{"sender", "sealpost_sender_attempt_phase_duration_seconds_count", []string{`phase="first_byte"`}, 3},
		{"sender", "sealpost_sender_delivery_attempts_sum", nil, 2},
		{"gateway", "sealpost_queue_consumers", nil, 6}, // one for each queue of one sender
	} {
		if got := s.metric(want.program, want.name, want.labels...); got != want.value {
			t.Errorf("%s%v = %v, want %v", want.name, want.labels, got, want.value)
		}
	}
}

// TestTroubles: a sender's admin listener tells which endpoints fail, for what the
// metrics have no label.
func TestTroubles(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "1"})
	acme := s.client("acme", "admin,publish")
	good := newReceiver(t, s.ca, nil)
	bad := newReceiver(t, s.ca, answers(http.StatusInternalServerError))
	acme.subscribe(good.url(), "call.qualified")
	broken := acme.subscribe(bad.url(), "call.qualified")
	acme.publish(2, "call.qualified", `1`)
	s.awaitIdle()
	status, contentType, body := s.look("sender", "/top?n=5")
	var top struct{ Endpoints []map[string]any }
	if err := json.Unmarshal([]byte(body), &top); err != nil || status != http.StatusOK || contentType != "application/json" {
		t.Fatalf("/top is answered with %d %s %q", status, contentType, body)
	}
	if len(top.Endpoints) != 1 || top.Endpoints[0]["endpoint"] != broken.ID || top.Endpoints[0]["organization"] != "acme" ||
		top.Endpoints[0]["failed"] != 1.0 || top.Endpoints[0]["last_reason"] != "status_5xx" || top.Endpoints[0]["last_status"] != 500.0 {
		t.Errorf("/top says %s", body)
	}
	for _, n := range []string{"0", "many", "1000"} {
		if status, _, _ := s.look("sender", "/top?n="+n); status != http.StatusBadRequest {
			t.Errorf("/top?n=%s is answered with %d", n, status)
		}
	}
}

// TestCleanStop: after SIGTERM a process ends
// with status 0, and its whole log is JSON records without an error.
func TestCleanStop(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	for _, p := range []*process{s.gateway, s.sender} {
		if status := p.stop(); status != 0 {
			t.Errorf("%s ends with status %d", p.name, status)
		}
		for line := range strings.Lines(p.log()) {
			var record struct{ Level, Msg string }
			if err := json.Unmarshal([]byte(line), &record); err != nil || record.Msg == "" {
				t.Errorf("%s writes a line that is no JSON record: %s", p.name, line)
			}
			if record.Level == "ERROR" {
				t.Errorf("%s logs an error: %s", p.name, line)
			}
		}
	}
}
