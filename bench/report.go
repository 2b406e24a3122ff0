package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is a result in one line.
func row(res *result) string {
	name := strings.TrimSpace(res.Scenario + " " + res.Variant)
	var b strings.Builder
	fmt.Fprintf(&b, "%-34s", name)
	if res.Delivered > 0 {
		fmt.Fprintf(&b, " %8.0f deliveries/s  accept p99 %7.2f ms  delivery p50 %8.2f p99 %8.2f ms  lost %d dup %d", res.DeliveredPerSecond, res.Accept.P99, res.Delivery.P50, res.Delivery.P99, res.Lost, res.Duplicated)
		if res.Rejected > 0 {
			fmt.Fprintf(&b, "  rejected %d (%.80s)", res.Rejected, res.Error)
		}
	}
	if cpu := describe(res.CPU, "%.0f"); cpu != "" {
		fmt.Fprintf(&b, "  CPU µs: %s", cpu)
	}
	if figures := describe(res.Figures, "%.2f"); figures != "" {
		fmt.Fprintf(&b, "  %s", figures)
	}
	return b.String()
}

func describe(m map[string]float64, format string) string {
	var words []string
	for k, v := range m {
		words = append(words, k+" "+fmt.Sprintf(format, v))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// goal is a bar of the design and what was reached.
type goal struct {
	Name    string  `json:"name"`
	Reached float64 `json:"reached"`
	Bar     float64 `json:"bar"`
	AtMost  bool    `json:"at_most"` // the bar is a ceiling
	Met     bool    `json:"met"`
}

// goals judges the results that are there.
func (r *runner) goals() []goal {
	var gs []goal
	add := func(name string, reached, bar float64, atMost bool) {
		gs = append(gs, goal{name, reached, bar, atMost, atMost && reached <= bar || !atMost && reached >= bar})
	}
	compare := func(name, a, b string, figure func(*result) float64, times, bar float64, atMost bool) {
		if ratio, ok := r.ratio(a, b, figure); ok {
			add(name, times*ratio, bar, atMost)
		}
	}
	compare("single / (floor/2)", "single", "floor", rate, 2, 0.50, false)
	compare("batch / floor", "batch", "floor", rate, 1, 0.50, false)
	compare("fanout10 / floor", "fanout10", "floor", rate, 1, 0.50, false)
	compare("single / plain-asynq", "single", "plain-asynq", rate, 1, 4, false)
	compare("batch / plain-asynq", "batch", "plain-asynq", rate, 1, 8, false)
	if steady := r.quietest("steady200"); steady != nil {
		add("steady200 p50 ms", steady.Delivery.P50, 2.5, true)
		add("steady200 p99 ms", steady.Delivery.P99, 15, true)
	}
	compare("steady200 CPU / plain-asynq", "steady200", "plain-asynq-steady200", systemCPU, 1, 1.5, true)
	if half := r.find("half-load"); half != nil {
		add("half-load p99 ms", half.Delivery.P99, 50, true)
	}
	for _, name := range []string{"dead1of100", "slow10of100"} {
		for _, res := range r.results {
			if ratio, ok := res.Figures["p99_ratio"]; ok && res.Scenario == name {
				add(name+" healthy p99, times", ratio, 2, true)
			}
		}
	}
	for _, res := range r.results {
		if ratio, ok := res.Figures["p99_ratio"]; ok && res.Scenario == "flood" {
			add("flood, p99 "+res.Variant+", times", ratio, 2, true)
		}
		if res.Scenario == "outage" {
			add("outage, "+res.Variant+", requests", res.Figures["requests_while_down"], res.Figures["requests_allowed"], true)
			add("outage, "+res.Variant+", s until caught up", res.Figures["caught_up_s"], outageCatchUp.Seconds(), true)
		}
	}
	if backlog := r.find("backlog"); backlog != nil {
		add("backlog bytes per delivery", backlog.Figures["redis_bytes_per_delivery"], 400, true)
	}
	if idle := r.find("idle"); idle != nil {
		add("idle Redis commands/s", idle.Figures["redis_commands_per_second"], 20, true)
		for k, v := range idle.Figures {
			if name, ok := strings.CutPrefix(k, "cpu_percent_"); ok {
				add("idle % of a core, "+name, v, 2, true)
			}
		}
	}
	return gs
}

// systemCPU is the CPU of all processes but bench's own, per delivery.
func systemCPU(res *result) float64 {
	var sum float64
	for name, us := range res.CPU {
		if name != "bench" {
			sum += us
		}
	}
	return sum
}

// report prints the goals, writes report.json and latency.svg, and fails when
// anything was lost or doubled.
func (r *runner) report() error {
	goals := r.goals()
	fmt.Printf("\nSealpost load test, %s, %d cores, %s, %d bytes of data, %v each\n\n", time.Now().Format("2006-01-02"), runtime.NumCPU(), runtime.Version(), r.o.payload, r.o.duration)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "scenario\tvariant\taccepted/s\tdelivered/s\taccept p50\tp99\tdelivery p50\tp99 ms\tµs CPU gateway\tsender\tredis\tlost\tdup\t")
	for _, res := range r.results {
		sender := 0.0
		for name, v := range res.CPU {
			if strings.HasPrefix(name, "sender") {
				sender += v
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%d\t%d\t\n", res.Scenario, res.Variant, res.AcceptedPerSecond, res.DeliveredPerSecond,
			res.Accept.P50, res.Accept.P99, res.Delivery.P50, res.Delivery.P99, res.CPU["gateway"], sender, res.CPU["redis"], res.Lost, res.Duplicated)
	}
	table.Flush()
	if len(goals) > 0 {
		fmt.Println()
		table = tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		for _, g := range goals {
			sign, verdict := "≥", "met"
			if g.AtMost {
				sign = "≤"
			}
			if !g.Met {
				verdict = "MISSED"
			}
			fmt.Fprintf(table, "%s\t%.2f\t%s %.2f\t%s\n", g.Name, g.Reached, sign, g.Bar, verdict)
		}
		table.Flush()
	}
	raw, err := json.MarshalIndent(map[string]any{
		"go": runtime.Version(), "cores": runtime.NumCPU(), "payload_bytes": r.o.payload, "seconds_each": r.o.duration.Seconds(),
		"results": r.results, "goals": goals,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.o.out, "report.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	if err := r.plot(filepath.Join(r.o.out, "latency.svg")); err != nil {
		return err
	}
	return r.correct()
}
