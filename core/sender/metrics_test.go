package sender

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// checkValue fails unless the counter name has the value want; label is the
// value of its only label, "" if it has none.
func checkValue(t *testing.T, reg prometheus.Gatherer, name, label string, want float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if len(m.GetLabel()) == 0 && label == "" || len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				if got := m.GetCounter().GetValue(); got != want {
					t.Errorf("%s{%s} = %v; want %v", name, label, got, want)
				}
				return
			}
		}
	}
	t.Errorf("no metric %s{%s}", name, label)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		// Series exist before their first event.
		for _, r := range core.Reasons() {
			checkValue(t, f.reg, "sealpost_sender_attempt_failures_total", string(r), 0)
			checkValue(t, f.reg, "sealpost_dead_letters_total", string(r), 0)
		}
		for _, o := range core.Outcomes() {
			checkValue(t, f.reg, "sealpost_sender_attempts_total", string(o), 0)
		}
		statuses := map[string]int{"evt_000": 200, "evt_001": 500, "evt_002": 429, "evt_003": 500}
		f.poster.answer = func(r request) egress.Result {
			time.Sleep(2 * time.Second)
			return egress.Result{Status: statuses[r.header.Get("Webhook-Id")], DNS: time.Second, FirstByte: 2 * time.Second}
		}
		b := f.bundle(repeat(f.endpoint(1), 4)...)
		b.Deliveries[3].Attempts, b.Deliveries[3].Due = 4, time.Now().Add(750*time.Millisecond)
		time.Sleep(time.Second)
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		checkValue(t, f.reg, "sealpost_sender_attempts_total", "delivered", 1)
		checkValue(t, f.reg, "sealpost_sender_attempts_total", "retry", 3)
		checkValue(t, f.reg, "sealpost_sender_attempt_failures_total", "status_5xx", 2)
		checkValue(t, f.reg, "sealpost_sender_attempt_failures_total", "status_429", 1)
		checkValue(t, f.reg, "sealpost_sender_deliveries_total", "delivered", 1)
		checkValue(t, f.reg, "sealpost_sender_deliveries_total", "failed", 1)
		checkValue(t, f.reg, "sealpost_dead_letters_total", "status_5xx", 1)
		checkValue(t, f.reg, "sealpost_sender_retries_total", "", 2)
		want := `
# HELP sealpost_sender_concurrency Attempts that may be in flight.
# TYPE sealpost_sender_concurrency gauge
sealpost_sender_concurrency 128
# HELP sealpost_sender_in_flight Attempts in flight, but for those that take long or came out of backlogs.
# TYPE sealpost_sender_in_flight gauge
sealpost_sender_in_flight 0
`
		if err := testutil.GatherAndCompare(f.reg, strings.NewReader(want), "sealpost_sender_concurrency", "sealpost_sender_in_flight"); err != nil {
			t.Error(err)
		}
		for _, h := range []struct {
			name, label string
			count       uint64
			sum         float64
		}{
			{"sealpost_sender_attempt_duration_seconds", "", 4, 8},
			{"sealpost_sender_delivery_latency_seconds", "", 1, 3},
			{"sealpost_sender_delivery_attempts", "", 1, 1},
			{"sealpost_sender_attempt_phase_duration_seconds", "dns", 4, 4},
			{"sealpost_sender_attempt_phase_duration_seconds", "connect", 0, 0}, // it did not happen
			{"sealpost_sender_attempt_phase_duration_seconds", "tls", 0, 0},
			{"sealpost_sender_attempt_phase_duration_seconds", "first_byte", 4, 8},
			{"sealpost_sender_schedule_lag_seconds", "first", 3, 3},
			{"sealpost_sender_schedule_lag_seconds", "retry", 1, 0.25},
		} {
			if count, sum := histogram(t, f.reg, h.name, h.label); count != h.count || sum != h.sum {
				t.Errorf("%s{%s} counts %d and sums to %v; want %d and %v", h.name, h.label, count, sum, h.count, h.sum)
			}
		}
		problems, err := testutil.GatherAndLint(f.reg)
		if err != nil || len(problems) != 0 {
			t.Errorf("lint: %v, %v", problems, err)
		}
	})
}

func histogram(t *testing.T, reg prometheus.Gatherer, name, label string) (count uint64, sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label == "" || m.GetLabel()[0].GetValue() == label {
				return m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()
			}
		}
	}
	t.Errorf("no metric %s{%s}", name, label)
	return 0, 0
}

// TestCountingAllocatesNothing: what is counted for each attempt costs no memory.
func TestCountingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	f := newFixture(t, nil)
	d := &core.Delivery{Endpoint: "e", Event: &core.Event{AcceptedAt: time.Now()}}
	v := &verdict{delivery: *d, outcome: core.OutcomeDelivered, status: core.StatusDelivered}
	failed := &verdict{delivery: *d, outcome: core.OutcomeRetry, reason: core.ReasonTimeout, step: stepRetry}
	res := &egress.Result{Status: 200, DNS: 1, Connect: 1, TLS: 1, FirstByte: 1}
	now := time.Now()
	count := func() {
		for _, v := range []*verdict{v, failed} {
			f.metrics.started(d, now)
			f.metrics.attempted(v, res)
			f.metrics.judged(v)
			f.metrics.ended(v)
			f.troubles.note(v, res)
		}
	}
	count() // makes the endpoint's place
	if n := testing.AllocsPerRun(100, count); n != 0 {
		t.Errorf("%v allocations; want none", n)
	}
}
