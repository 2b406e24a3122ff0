package redisstore

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
)

func collector(t *testing.T, s *Store) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	noError(t, registry.Register(NewBacklogCollector(s)))
	return registry
}

// noStates is what is exposed of endpoints that are all active.
const noStates = `
# HELP sealpost_endpoint_states Endpoints that are not simply active, by state. Where they are too many to be told apart, all are unknown.
# TYPE sealpost_endpoint_states gauge
sealpost_endpoint_states{state="catching_up"} 0
sealpost_endpoint_states{state="failing"} 0
sealpost_endpoint_states{state="paused"} 0
sealpost_endpoint_states{state="slow"} 0
sealpost_endpoint_states{state="throttled"} 0
sealpost_endpoint_states{state="unknown"} 0
`

func checkStates(t *testing.T, registry *prometheus.Registry, want string) {
	t.Helper()
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sealpost_endpoint_states"); err != nil {
		t.Error(err)
	}
}

func TestBacklogCollector(t *testing.T) {
	t.Parallel()
	s, behind := setup(t)
	ctx := t.Context()
	registry := collector(t, s)
	checkStates(t, registry, noStates)
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}

	later := time.Now().Add(time.Hour)
	parkings := make([]core.Parking, 0, 4)
	for i, state := range []core.State{core.StateFailing, core.StatePaused, core.StatePaused, core.StateSlow} {
		ref := endpoint("acme", i+1).Ref()
		parkings = append(parkings, core.Parking{Endpoint: ref, Condition: core.Condition{State: state, Until: later}, Deliveries: parcels(ref, i, 100)})
	}
	park(t, s, parkings...)
	checkStates(t, registry, strings.NewReplacer(`"failing"} 0`, `"failing"} 1`, `"paused"} 0`, `"paused"} 2`, `"slow"} 0`, `"slow"} 1`).Replace(noStates))
	v, err := s.BacklogOverview(ctx)
	noError(t, err)
	want := fmt.Sprintf(`
# HELP sealpost_backlog_bytes Size of the deliveries in all backlogs as they are stored.
# TYPE sealpost_backlog_bytes gauge
sealpost_backlog_bytes %d
# HELP sealpost_backlog_deliveries Deliveries that wait in the backlogs of all endpoints.
# TYPE sealpost_backlog_deliveries gauge
sealpost_backlog_deliveries 6
# HELP sealpost_backlog_endpoints Endpoints with a backlog: deliveries that wait because nothing can or may be sent at once.
# TYPE sealpost_backlog_endpoints gauge
sealpost_backlog_endpoints 3
`, v.Bytes)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sealpost_backlog_bytes", "sealpost_backlog_deliveries", "sealpost_backlog_endpoints"); err != nil {
		t.Error(err)
	}

	// Nobody has looked for an hour at the slow one's, which was due at once.
	for _, member := range behind.ZRange(ctx, waitingKey, 0, -1).Val() {
		behind.ZIncrBy(ctx, waitingKey, -float64(time.Hour.Milliseconds()), member)
	}
	families, err := registry.Gather()
	noError(t, err)
	for _, f := range families {
		if f.GetName() != "sealpost_backlog_overdue_seconds" {
			continue
		}
		if late := f.GetMetric()[0].GetGauge().GetValue(); late < 3600 || late > 3660 {
			t.Errorf("overdue for %v s; want an hour", late)
		}
		return
	}
	t.Error("nothing is said about overdue backlogs")
}

// TestBacklogCollectorOfMany has more endpoints in trouble than are told apart.
func TestBacklogCollectorOfMany(t *testing.T) {
	t.Parallel()
	s, behind := setup(t)
	conditions := make([]any, 0, 2*maxOverviewConditions+2)
	failing := encodeCondition(&core.Condition{State: core.StateFailing, Since: time.Now(), Until: time.Now()})
	for i := range maxOverviewConditions + 1 {
		conditions = append(conditions, fmt.Sprint(i), failing)
	}
	noError(t, behind.HSet(t.Context(), conditionsKey, conditions...).Err())
	const head = "# HELP sealpost_endpoint_states Endpoints that are not simply active, by state. Where they are too many to be told apart, all are unknown.\n" +
		"# TYPE sealpost_endpoint_states gauge\n"
	checkStates(t, collector(t, s), head+fmt.Sprintf("sealpost_endpoint_states{state=\"unknown\"} %d\n", maxOverviewConditions+1))
}

// TestBacklogCollectorWithoutRedis: a scrape lacks the metrics and is no error, and
// the log says so once.
func TestBacklogCollectorWithoutRedis(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	s := newStore(t, "unix://"+t.TempDir()+"/none", func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	registry := collector(t, s)
	for range 3 {
		if families, err := registry.Gather(); err != nil || len(families) != 0 {
			t.Errorf("Gather = %v, %v; want nothing", families, err)
		}
	}
	if n := strings.Count(log.String(), "backlogs could not be read"); n != 1 {
		t.Errorf("%d warnings; want 1:\n%s", n, log.String())
	}
}
