package app

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core/sign"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

var update = flag.Bool("update", false, "write docs/METRICS.md anew")

// The generated part of docs/METRICS.md stands between these lines.
const (
	metricsBegin = "<!-- begin: made from the registries by `go test ./cmd/internal/app -run MetricsAreDocumented -update` -->\n"
	metricsEnd   = "<!-- end -->\n"
)

// runtimeMetrics are those of the Go runtime and of the process that dashboards
// and readers may rely on. There are more, and which depends on the Go version.
var runtimeMetrics = []string{
	"go_gc_duration_seconds", "go_goroutines", "go_memstats_heap_alloc_bytes", "go_sched_latencies_seconds",
	"process_cpu_seconds_total", "process_max_fds", "process_open_fds", "process_resident_memory_bytes", "process_start_time_seconds",
}

// exposed returns what a program exposes before it has done anything.
func exposed(t *testing.T, role string) []*described {
	t.Helper()
	ring, err := sign.ParseKeyring("k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	at := &redisSettings{RedisURL: redistest.Start(t).URL()}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	b, err := newBase(role, at, &adminSettings{AdminListen: "127.0.0.1:0"}, ring, retention{deadLetters: time.Hour}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	if role == "gateway" {
		api := &apiSettings{MaxPayload: minMaxPayload, MaxEndpoints: 1}
		_, err = b.startGateway(t.Context(), at, "127.0.0.1:0", api, &targetSettings{})
	} else {
		delivery := &deliverySettings{DeliveryTimeout: time.Second, RetryBase: time.Second, RetryFactor: 2, RetryCap: time.Hour, RetryMaxAttempts: 3, Concurrency: 4, ShutdownTimeout: time.Second}
		err = b.startSender(t.Context(), at, delivery, &targetSettings{}, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*described, len(families))
	for i, family := range families {
		d := &described{name: family.GetName(), kind: strings.ToLower(family.GetType().String()), help: family.GetHelp(), values: make(map[string][]string)}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				d.add(l.GetName(), l.GetValue())
			}
		}
		all[i] = d
	}
	return all
}

// described is a metric as it is documented.
type described struct {
	name, kind, help string
	labels           []string            // in their order
	values           map[string][]string // of each label
	from             []string            // the programs that expose it
}

// add adds the value of a label, once.
func (d *described) add(label, value string) {
	if !slices.Contains(d.labels, label) {
		d.labels = append(d.labels, label)
	}
	if !slices.Contains(d.values[label], value) {
		d.values[label] = append(d.values[label], value)
	}
}

// row returns the metric's line of the table.
func (d *described) row() string {
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", d.name, d.kind,
		cmp.Or(d.labelText(), "–"), strings.Join(d.from, ", "), strings.ReplaceAll(strings.TrimSuffix(d.help, "."), "|", `\|`))
}

// labelText names the labels and their values, all of which are there from the
// start; the version would make the document change with every release.
func (d *described) labelText() string {
	var texts []string
	for _, label := range d.labels {
		text := "`" + label + "`"
		if label != "version" {
			slices.Sort(d.values[label])
			text += ": " + strings.Join(d.values[label], ", ")
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// metricsTable returns the generated part of the document.
func metricsTable(t *testing.T) string {
	t.Helper()
	all := make(map[string]*described)
	for _, role := range []string{"gateway", "sender"} {
		for _, d := range exposed(t, role) {
			known := all[d.name]
			if known == nil {
				known = d
				all[d.name] = d
			}
			for _, label := range d.labels {
				for _, value := range d.values[label] {
					known.add(label, value)
				}
			}
			known.from = append(known.from, role)
		}
	}
	var text strings.Builder
	section := func(title, note string, pick func(name string) bool) {
		fmt.Fprintf(&text, "\n### %s\n\n%s| name | type | labels | from | meaning |\n| --- | --- | --- | --- | --- |\n", title, note)
		var names []string
		for name := range all {
			if pick(name) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			text.WriteString(all[name].row())
			delete(all, name)
		}
	}
	prefixed := func(prefixes ...string) func(string) bool {
		return func(name string) bool {
			return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		}
	}
	section("Accepting", "", prefixed("sealpost_gateway_", "sealpost_events_", "sealpost_deliveries_", "sealpost_flush_", "sealpost_publish_"))
	section("Delivering", "", prefixed("sealpost_sender_", "sealpost_dead_letters_", "sealpost_payloads_"))
	section("Backlogs", "What waits for endpoints that are failing, slow, throttled, paused, limited, in order, or disabled.\n\n",
		prefixed("sealpost_backlog_", "sealpost_endpoint_"))
	section("Queue", "", prefixed("sealpost_queue_", "sealpost_bundles_"))
	section("Redis", "", prefixed("sealpost_redis_"))
	for _, name := range runtimeMetrics {
		if all[name] == nil {
			t.Errorf("no program exposes %s", name)
		}
	}
	section("Process", "Those that dashboards use; the Go runtime and the process have more.\n\n", func(name string) bool {
		return name == "sealpost_build_info" || slices.Contains(runtimeMetrics, name)
	})
	for name := range all {
		if strings.HasPrefix(name, "sealpost_") {
			t.Errorf("%s belongs to no section of docs/METRICS.md", name)
		}
	}
	return text.String()
}

// TestMetricsAreDocumented compares docs/METRICS.md with the registries.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	const name = "docs/METRICS.md"
	head, rest, ok := strings.Cut(document(t, name), metricsBegin)
	documented, tail, ended := strings.Cut(rest, metricsEnd)
	if !ok || !ended {
		t.Fatalf("%s lacks the lines %q and %q", name, metricsBegin, metricsEnd)
	}
	table := metricsTable(t) + "\n"
	switch {
	case *update:
		if err := os.WriteFile(filepath.Join(root, name), []byte(head+metricsBegin+table+metricsEnd+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	case documented != table:
		old := strings.Split(documented, "\n")
		for line := range strings.SplitSeq(table, "\n") {
			if !slices.Contains(old, line) {
				t.Errorf("missing: %s", line)
			}
		}
		t.Errorf("%s is out of date. Make it anew: go test ./cmd/internal/app -run MetricsAreDocumented -update", name)
	}
}
