package e2e

import (
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestRetries: two failures, then success. Waits are judged by what the log
// announces; a busy machine can only make an attempt later than that.
func TestRetries(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_FACTOR": "3"})
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(500, 503, 204))
	e := acme.subscribe(r.url(), "lead.created")
	id := acme.publish(1, "lead.created", `{"lead":1}`)
	r.await(3)
	s.awaitIdle()
	requests := r.all()
	if len(requests) != 3 {
		t.Fatalf("%d requests, want 3", len(requests))
	}

	var stamps []int64
	signatures := make(map[string]bool)
	for i := range requests {
		q := &requests[i]
		if q.id() != id || string(q.body) != string(requests[0].body) {
			t.Errorf("attempt %d: webhook-id %q, body %s", i+1, q.id(), q.body)
		}
		if !verifies(t, e.SigningSecret, q) {
			t.Errorf("attempt %d does not verify", i+1)
		}
		stamp, err := strconv.ParseInt(q.header.Get("webhook-timestamp"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		stamps = append(stamps, stamp)
		signatures[q.header.Get("webhook-signature")] = true
	}
	if !slices.IsSorted(stamps) || stamps[0] == stamps[1] || stamps[1] == stamps[2] || len(signatures) != 3 {
		t.Errorf("timestamps %d with %d different signatures: each attempt has to have its own", stamps, len(signatures))
	}

	rows := acme.deliveries(e.ID)
	slices.Reverse(rows)
	if len(rows) != 3 {
		t.Fatalf("%d rows in the log, want 3: %+v", len(rows), rows)
	}
	for i, want := range []struct {
		status   string
		response int
		error    string
	}{{"retrying", 500, "status_5xx"}, {"retrying", 503, "status_5xx"}, {"delivered", 204, "null"}} {
		row := rows[i]
		if row.Status != want.status || row.ResponseStatus == nil || *row.ResponseStatus != want.response || text(row.Error) != want.error ||
			row.Attempt != i+1 || row.ID != rows[0].ID || row.EventID != id || row.Event != "lead.created" {
			t.Errorf("row %d: %+v, want %+v", i+1, row, want)
		}
		if (row.DeliveredAt != nil) != (want.status == "delivered") || (row.NextAttemptAt != nil) != (want.status == "retrying") {
			t.Errorf("row %d: delivered_at %s, next_attempt_at %s", i+1, text(row.DeliveredAt), text(row.NextAttemptAt))
		}
	}

	for i, base := range []time.Duration{time.Second, 3 * time.Second} {
		due := instant(t, rows[i].NextAttemptAt)
		// The wait begins with the end of the attempt, which is after the request
		// arrived by what its answer took.
		wait := due.Sub(requests[i].at)
		shortest, longest := base*8/10, base*12/10+time.Duration(rows[i].LatencyMS)*time.Millisecond
		if wait < shortest || wait > longest+2*time.Millisecond { // latency_ms is cut off, times are rounded up
			t.Errorf("attempt %d: the next one is planned %v later, want %v to %v", i+1, wait, shortest, longest)
		}
		if requests[i+1].at.Before(due) {
			t.Errorf("attempt %d came %v before it was due", i+2, due.Sub(requests[i+1].at))
		}
	}
}

// TestAttemptsExhausted: the last failure makes a dead letter and nothing more.
func TestAttemptsExhausted(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "3", "SEALPOST_RETRY_FACTOR": "1"})
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(500))
	e := acme.subscribe(r.url(), "lead.created")
	id := acme.publish(1, "lead.created", `{"lead":1}`)
	r.await(3)
	s.awaitIdle()
	if n := len(r.all()); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}

	rows := acme.deliveries(e.ID)
	if len(rows) != 3 {
		t.Fatalf("%d rows in the log, want 3", len(rows))
	}
	for i, want := range []string{"failed", "retrying", "retrying"} {
		row := rows[i]
		if row.Status != want || row.Attempt != 3-i || text(row.Error) != "status_5xx" || row.DeliveredAt != nil || (row.NextAttemptAt != nil) != (want == "retrying") {
			t.Errorf("row %d from the newest: %+v, want %s", i, row, want)
		}
	}
	if dead := s.deadLetters(e.ID); len(dead) != 1 || dead[id] != "status_5xx" {
		t.Errorf("dead letters %v, want the event %s for status_5xx", dead, id)
	}
	if n := s.metric("sender", "sealpost_dead_letters_total", `reason="status_5xx"`); n != 1 {
		t.Errorf("sealpost_dead_letters_total{reason=status_5xx} = %v, want 1", n)
	}
}

// TestRetryAfter: an endpoint that names a time is not asked before it.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil) // by itself Sealpost would come back after 1 s
	acme := s.client("acme", "admin,publish")
	const pause = 4 * time.Second
	for _, test := range []struct {
		name   string
		event  string
		status int
		reason string
		value  func(now time.Time) (header string, until time.Time)
	}{
		{"503 with seconds", "call.received", 503, "status_5xx", func(now time.Time) (string, time.Time) {
			return strconv.Itoa(int(pause / time.Second)), now.Add(pause)
		}},
		{"429 with a date", "call.classified", 429, "status_429", func(now time.Time) (string, time.Time) {
			until := now.Add(pause).Truncate(time.Second).Add(time.Second)
			return until.UTC().Format(http.TimeFormat), until
		}},
	} {
		until := make(chan time.Time, 1)
		r := newReceiver(t, s.ca, func(n int, _ *received, w http.ResponseWriter) {
			if n == 1 {
				value, at := test.value(time.Now())
				until <- at
				w.Header().Set("Retry-After", value)
				w.WriteHeader(test.status)
			}
		})
		e := acme.subscribe(r.url(), test.event)
		acme.publish(1, test.event, `{}`)
		requests := r.await(2)
		at := <-until
		if requests[1].at.Before(at) {
			t.Errorf("%s: the second attempt came %v too early", test.name, at.Sub(requests[1].at))
		}
		s.eventually("the second attempt is in the log", func() bool { return len(acme.deliveries(e.ID)) == 2 })
		row := acme.deliveries(e.ID)[1]
		if due := instant(t, row.NextAttemptAt); due.Before(at.Truncate(time.Millisecond)) || text(row.Error) != test.reason {
			t.Errorf("%s: error %s, next_attempt_at %v, want %s and not before %v", test.name, text(row.Error), due, test.reason, at)
		}
	}
}
