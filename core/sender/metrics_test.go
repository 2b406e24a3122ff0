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
			return egress.Result{Status: statuses[r.header.Get("Webhook-Id")]}
		}
		b := f.bundle(repeat(f.endpoint(1), 4)...)
		b.Deliveries[3].Attempts = 4
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
		want := `
# HELP sealpost_sender_in_flight Attempts in flight.
# TYPE sealpost_sender_in_flight gauge
sealpost_sender_in_flight 0
`
		if err := testutil.GatherAndCompare(f.reg, strings.NewReader(want), "sealpost_sender_in_flight"); err != nil {
			t.Error(err)
		}
		for _, h := range []struct {
			name string
			sum  float64
		}{{"sealpost_sender_attempt_duration_seconds", 8}, {"sealpost_sender_delivery_latency_seconds", 3}} {
			if got := histogramSum(t, f.reg, h.name); got != h.sum {
				t.Errorf("%s sums to %v; want %v", h.name, got, h.sum)
			}
		}
		problems, err := testutil.GatherAndLint(f.reg)
		if err != nil || len(problems) != 0 {
			t.Errorf("lint: %v, %v", problems, err)
		}
	})
}

func histogramSum(t *testing.T, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetHistogram().GetSampleSum()
		}
	}
	t.Errorf("no metric %s", name)
	return 0
}
