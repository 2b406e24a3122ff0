package dashboards

import (
	"slices"
	"strings"
)

// Dashboard is one page of Grafana.
type Dashboard struct {
	UID         string // also its file's name
	Title       string
	Description string
	Rows        []Row
}

// Row is a titled line of panels, which may wrap.
type Row struct {
	Title  string
	Panels []Panel
}

// Kind is how a panel shows its numbers.
type Kind string

// The kinds.
const (
	Lines Kind = "timeseries"
	Stat  Kind = "stat" // the latest number
)

// Unit is Grafana's name of a unit.
type Unit string

// The units.
const (
	Seconds       Unit = "s"
	Bytes         Unit = "bytes"
	BytesPerSec   Unit = "Bps"
	Ratio         Unit = "percentunit" // 1 is 100 %
	PerSecond     Unit = "ops"
	EventsPerSec  Unit = "eps"
	RequestPerSec Unit = "reqps"
	Count         Unit = "short"
)

// Panel is one picture or number.
type Panel struct {
	Kind        Kind
	Title       string
	Description string // what it tells, and what to do about it
	Unit        Unit
	Queries     []Query
	Thresholds  []Threshold // ascending; below the first all is well
	LowIsBad    bool        // Thresholds are what to stay above: descending
	Signed      bool        // values may be below zero
	Width       int         // of 24; 0: 4 for a Stat, 8 for Lines
}

// Query is one PromQL expression of a panel. `{@}` stands for the choice of job
// and instance, `{@,x="y"}` for that and further matchers.
type Query struct {
	Expr   string
	Legend string
}

// Threshold is where a value begins to need attention.
type Threshold struct {
	At    float64
	Color string // yellow, orange or red
}

// Variable is a choice at the top of a dashboard.
type Variable struct {
	Name, Label string
	Query       string // label_values(…); "" for the data source
}

// selector is what `@` stands for.
const selector = `job=~"$job",instance=~"$instance"`

// PromQL returns the expression as Grafana gets it.
func (q Query) PromQL() string { return strings.ReplaceAll(q.Expr, "{@", "{"+selector) }

// Variables returns the choices that every dashboard has.
func Variables() []Variable {
	return []Variable{
		{Name: "datasource", Label: "Data source"},
		{Name: "job", Label: "Job", Query: `label_values(sealpost_build_info, job)`},
		{Name: "instance", Label: "Instance", Query: `label_values(sealpost_build_info{job=~"$job"}, instance)`},
	}
}

// All returns the dashboards.
func All() []Dashboard { return []Dashboard{gateway(), delivery(), redisAndQueue(), slo()} }

// Panels returns all panels of a dashboard, in their order.
func (d *Dashboard) Panels() []Panel {
	var all []Panel
	for _, r := range d.Rows {
		all = slices.Concat(all, r.Panels)
	}
	return all
}

// Size returns how wide and high a panel is, in Grafana's grid of 24 columns.
func (p *Panel) Size() (width, height int) {
	width, height = 8, 8
	if p.Kind == Stat {
		width, height = 4, 4
	}
	if p.Width > 0 {
		width = p.Width
	}
	return width, height
}

// lines returns a panel of curves.
func lines(title string, unit Unit, description string, queries ...Query) Panel {
	return Panel{Kind: Lines, Title: title, Unit: unit, Description: description, Queries: queries}
}

// stat returns a panel of one number.
func stat(title string, unit Unit, description, expr string) Panel {
	return Panel{Kind: Stat, Title: title, Unit: unit, Description: description, Queries: []Query{{Expr: expr}}}
}

// above colours the panel from warn and from bad on; 0: no such colour.
func (p Panel) above(warn, bad float64) Panel {
	p.Thresholds = append(p.Thresholds, Threshold{warn, "orange"}, Threshold{bad, "red"})
	return p
}

// signed lets the panel show values below zero.
func (p Panel) signed() Panel {
	p.Signed = true
	return p
}

// below colours the panel under warn and under bad.
func (p Panel) below(warn, bad float64) Panel {
	p = p.above(warn, bad)
	p.LowIsBad = true
	return p
}

// quantile returns a query for a quantile of a histogram without further labels.
func quantile(q, metric, legend string) Query {
	return Query{"histogram_quantile(" + q + ", sum by (le) (rate(" + metric + "_bucket{@}[$__rate_interval])))", legend}
}

// mean returns a query for the mean of a histogram.
func mean(metric, legend string) Query {
	return Query{"sum(rate(" + metric + "_sum{@}[$__rate_interval])) / clamp_min(sum(rate(" + metric + "_count{@}[$__rate_interval])), 1e-9)", legend}
}

// rate returns a query for the rate of a counter, by labels if there are any.
func rate(metric, legend string, by ...string) Query {
	sum := "sum"
	if len(by) > 0 {
		sum = "sum by (" + strings.Join(by, ", ") + ") "
	}
	if !strings.Contains(metric, "{") {
		metric += "{@}"
	}
	return Query{sum + "(rate(" + metric + "[$__rate_interval]))", legend}
}

// process returns the panels of the state of the processes of one role.
func process(role string) Row {
	one := ` * on (instance, job) group_left () sealpost_build_info{role=~"` + role + `|dev"}`
	return Row{Title: "Process", Panels: []Panel{
		lines("CPU", Count, "Cores in use, by process. When all cores of the machine are busy, latencies grow everywhere.",
			Query{"rate(process_cpu_seconds_total{@}[$__rate_interval])" + one, "{{instance}}"}),
		lines("Memory", Bytes, "Resident memory, by process.", Query{"process_resident_memory_bytes{@}" + one, "{{instance}}"}),
		lines("Goroutines", Count, "One for each connection and each attempt in flight, and some more. A steady climb is a leak.", Query{"go_goroutines{@}" + one, "{{instance}}"}),
		lines("Waiting for a core", Seconds, "How long 99 % of goroutines waited at most until they ran: above some milliseconds the machine is too small.",
			Query{"histogram_quantile(0.99, sum by (le, instance) (rate(go_sched_latencies_seconds_bucket{@}[$__rate_interval])" + one + "))", "{{instance}}"}).above(0.01, 0.1),
		lines("Garbage collector's pause", Seconds, "The longest of the last stops of the world, by process.", Query{`max by (instance) (go_gc_duration_seconds{@,quantile=~"1|1.0"}` + one + ")", "{{instance}}"}),
		lines("File descriptors", Ratio, "Share of the permitted file descriptors in use; each connection is one.",
			Query{"process_open_fds{@} / process_max_fds{@}" + one, "{{instance}}"}).above(0.7, 0.9),
	}}
}
