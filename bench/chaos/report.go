package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sealpost/sealpost/core"
)

// result is what became of a promise.
type result struct {
	Number   int    `json:"number"`
	Fault    string `json:"fault"`
	Promise  string `json:"promise"`
	Injected int    `json:"injected"` // kills, resets, lost replies and the like

	Accepted    int `json:"accepted"` // events
	Refused     int `json:"refused"`  // answers other than 202; the events were offered again
	Unconfirmed int `json:"unconfirmed"`
	Delivered   int `json:"delivered"` // deliveries that were received, each counted once
	Dead        int `json:"dead_letters"`

	Lost             int `json:"lost"`
	LostAtLeast      int `json:"lost_at_least"`
	LostAtMost       int `json:"lost_at_most"`
	Duplicated       int `json:"duplicated"`
	DuplicatesAtMost int `json:"duplicated_at_most"`
	Reoffered        int `json:"duplicated_offered_again"` // beside those: see docs/RELIABILITY.md, "Duplicates"
	Forged           int `json:"forged"`                   // signature failures
	Split            int `json:"split"`                    // one key accepted under two ids
	Leaked           int `json:"leaked"`                   // secrets, in each place where one was found
	Planted          int `json:"leaked_on_purpose"`        // that many must be found

	Gap        float64 `json:"longest_gap_s"`      // without any receipt
	Slowest    float64 `json:"slowest_delivery_s"` // from 202
	Refusal    float64 `json:"slowest_refusal_s"`
	QuietAfter float64 `json:"quiet_after_s"` // the last event

	Figures map[string]float64 `json:"figures,omitempty"`
	Strain  *strain            `json:"strain,omitempty"` // of abuse
	Soak    *soakReport        `json:"soak,omitempty"`
	Broken  []string           `json:"broken,omitempty"`
}

func newResult(f *fault) *result {
	return &result{Number: f.number, Fault: f.name, Promise: f.promise, Figures: make(map[string]float64)}
}

func (r *result) lostPromise() string {
	if r.LostAtLeast == r.LostAtMost {
		return fmt.Sprint(r.LostAtMost)
	}
	return fmt.Sprintf("%d to %d", r.LostAtLeast, r.LostAtMost)
}

func (r *result) verdict() string {
	if len(r.Broken) > 0 {
		return "BROKEN"
	}
	return "kept"
}

// line is the result in one line.
func (r *result) line() string {
	var figures []string
	for name, value := range r.Figures {
		figures = append(figures, fmt.Sprintf("%s %.3g", name, value))
	}
	slices.Sort(figures)
	text := fmt.Sprintf("%s: %s; %d accepted, %d delivered, %d dead letters, lost %d (%s), duplicated %d (≤ %d) and %d offered again, gap %.1f s, slowest %.1f s, quiet after %.1f s  %s",
		r.Fault, r.verdict(), r.Accepted, r.Delivered, r.Dead, r.Lost, r.lostPromise(), r.Duplicated, r.DuplicatesAtMost, r.Reoffered, r.Gap, r.Slowest, r.QuietAfter, strings.Join(figures, ", "))
	for _, b := range r.Broken {
		text += "\n  " + b
	}
	return strings.TrimRight(text, " ")
}

// report prints the table and writes chaos.json. Its error says which promises are
// broken.
func report(out io.Writer, o *options, results []*result) error {
	fmt.Fprintf(out, "\nSealpost %s, faults, seed %d\n\n", core.Version, o.seed)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "no.\tfault\tinjected\taccepted\trefused\tdelivered\tdead letters\tlost\tpromised\tduplicated\tat most\toffered again\tforged\tleaked\tlongest gap\tquiet after\t")
	var errs []error
	for _, r := range results {
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%.1f s\t%.1f s\t%s\n", r.Number, r.Fault, r.Injected, r.Accepted, r.Refused, r.Delivered, r.Dead,
			r.Lost, r.lostPromise(), r.Duplicated, r.DuplicatesAtMost, r.Reoffered, r.Forged, r.Leaked, r.Gap, r.QuietAfter, r.verdict())
		for _, b := range r.Broken {
			errs = append(errs, fmt.Errorf("%s: %s", r.Fault, b))
		}
	}
	t.Flush()
	reportStrain(out, results)
	for _, r := range results {
		if r.Soak != nil {
			r.Soak.print(out)
		}
	}
	raw, err := json.MarshalIndent(struct {
		Version string    `json:"version"`
		Seed    uint64    `json:"seed"`
		At      time.Time `json:"at"`
		Results []*result `json:"results"`
	}{core.Version, o.seed, time.Now().UTC().Truncate(time.Second), results}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	errs = append(errs, os.WriteFile(filepath.Join(o.out, "chaos.json"), append(raw, '\n'), 0o644))
	return errors.Join(errs...)
}

// reportStrain prints the table of abuse, if there was any.
func reportStrain(out io.Writer, results []*result) {
	if !slices.ContainsFunc(results, func(r *result) bool { return r.Strain != nil }) {
		return
	}
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "fault\tabuse\tgateway MiB\tat most\tfiles\tat most\tsender MiB\tat most\tfiles\tat most\taccepted p99, ms\treceived p99, ms\tPING p99, ms\t")
	for _, r := range results {
		s := r.Strain
		if s == nil {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t\n", r.Fault, s.Abuse,
			s.GatewayMemory>>20, s.GatewayMemoryMost>>20, s.GatewayFiles, s.GatewayFilesMost,
			s.SenderMemory>>20, s.SenderMemoryMost>>20, s.SenderFiles, s.SenderFilesMost,
			ratio(s.AcceptBefore, s.Accept), ratio(s.ArrivalBefore, s.Arrival), ratio(s.PingBefore, s.Ping))
	}
	t.Flush()
}

// ratio shows a figure without abuse, with it, and how many times as much that is.
func ratio(before, with float64) string {
	return fmt.Sprintf("%.1f → %.1f (×%.2f)", before, with, with/max(before, 0.001))
}

// printFaults lists the plan.
func printFaults(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range faults() {
		ci := ""
		if f.ci {
			ci = "ci"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\n", f.number, f.name, ci, f.promise)
	}
	for _, e := range elsewhere() {
		fmt.Fprintf(t, "%d\t%s\t\tproven by %s\n", e.number, e.name, e.test)
	}
	t.Flush()
}
