package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFewFaults does some of them for a few seconds each. It judges promises, never
// how long something took.
func TestFewFaults(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "../../cmd/gateway", "../../cmd/sender")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, text)
	}
	for group, names := range map[string][]string{
		"faults": {"deliberate-loss", "deliberate-leak", "sender-term", "gateway-kill", "script-flush", "network-receivers", "soak"},
		"abuse":  {"slow-requests", "lying-lengths", "header-floods", "json-bombs", "idle-connections", "hostile-receivers"},
	} {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			fewFaults(t, bin, names)
		})
	}
}

func fewFaults(t *testing.T, bin string, names []string) {
	out := t.TempDir()
	var table bytes.Buffer
	if status := run([]string{"--quick", "--fault", strings.Join(names, ","), "--bin", bin, "--out", out}, &table); status != 0 {
		t.Errorf("chaos ends with status %d\n%s", status, &table)
	}
	raw, err := os.ReadFile(filepath.Join(out, "chaos.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Results []result }
	if err := json.Unmarshal(raw, &report); err != nil {
		t.Fatal(err)
	}
	var done []string
	for _, r := range report.Results {
		done = append(done, r.Fault)
		if r.Injected == 0 || r.Accepted == 0 || r.Delivered == 0 {
			t.Errorf("%s proves nothing: %+v", r.Fault, r)
		}
		if r.Fault == "deliberate-loss" && r.Lost != 1 {
			t.Errorf("the books report %d lost, want the one that was dropped", r.Lost)
		}
		if planted := r.Fault == "deliberate-leak"; (r.Leaked > 0) != planted || planted && r.Leaked != r.Planted {
			t.Errorf("%s: %d secrets found, %d planted", r.Fault, r.Leaked, r.Planted)
		}
		if looked := r.Figures["searched_MiB"]; looked <= 0 {
			t.Errorf("%s: %v MiB were searched for secrets", r.Fault, looked)
		}
		if r.Fault == "soak" && (r.Soak == nil || len(r.Soak.Samples) == 0 || len(r.Soak.Samples[0].Values) == 0 || r.Soak.Capacity == 0 || r.Soak.Peaks[elderSender] == 0) {
			t.Errorf("the soak measured nothing: %+v", r.Soak)
		}
		if !strings.Contains(table.String(), r.Fault) {
			t.Errorf("%s is not in the table", r.Fault)
		}
	}
	slices.Sort(done)
	slices.Sort(names)
	if !slices.Equal(done, names) {
		t.Errorf("done: %v, want %v", done, names)
	}
}

// The books must notice what they are kept for, or they prove nothing.
func TestBooksNotice(t *testing.T) {
	t.Parallel()
	b := newBooks(2)
	now := time.Unix(1_764_000_000, 0)
	for range 3 {
		b.take()
	}
	b.accept(0, "a", now)
	b.accept(1, "b", now)
	b.receive(0, 0, "a", now)
	b.receive(0, 1, "a", now.Add(time.Second))
	b.receive(0, 1, "a", now.Add(4*time.Second)) // again
	b.receive(1, 1, "b", now)
	b.receive(2, 0, "c", now) // never confirmed: neither lost nor wrong
	b.receive(9, 0, "d", now) // never published
	lost, buried, _ := b.missing([]map[string]bool{{}, {}})
	if lost != 1 || buried != 0 || b.outstanding != 1 || b.repeated != 1 || b.forged != 1 || b.delivered != 4 {
		t.Errorf("lost %d, dead %d, outstanding %d, repeated %d, forged %d, delivered %d; want 1, 0, 1, 1, 1, 4",
			lost, buried, b.outstanding, b.repeated, b.forged, b.delivered)
	}
	if lost, buried, _ := b.missing([]map[string]bool{{"b": true}, {"b": true}}); lost != 0 || buried != 1 {
		t.Errorf("with a dead letter: lost %d, dead %d; want 0, 1", lost, buried)
	}
	if gap := b.gap(); gap != 3*time.Second {
		t.Errorf("the longest gap is %v, want 3s", gap)
	}
	b.accept(2, "other", now) // receivers saw it as c
	b.accept(0, "z", now)     // the same key, another id
	if b.overtaken != 0 {
		t.Errorf("%d events overtaken, want none", b.overtaken)
	}
	b.receive(1, 0, "b", now) // after event 2
	if b.overtaken != 1 {
		t.Errorf("%d events overtaken, want 1", b.overtaken)
	}
	if b.split != 2 {
		t.Errorf("%d events under two ids, want 2", b.split)
	}
}

// A fault's name is how it is chosen, and its promise what it is judged by.
func TestPlan(t *testing.T) {
	t.Parallel()
	all, err := chooseFaults("all")
	if err != nil {
		t.Fatal(err)
	}
	numbers := make(map[int]bool)
	for _, f := range all {
		one, err := chooseFaults(f.name)
		if err != nil || len(one) != 1 || one[0].promise != f.promise {
			t.Errorf("%s chooses %d faults, %v", f.name, len(one), err)
		}
		if f.promise == "" {
			t.Errorf("%s promises nothing", f.name)
		}
		numbers[f.number] = true
	}
	for _, p := range elsewhere() {
		numbers[p.number] = true
	}
	for n := 1; n <= 37; n++ {
		if !numbers[n] {
			t.Errorf("fault %d is nowhere", n)
		}
	}
	if ci, err := chooseFaults("ci"); err != nil || len(ci) < 5 || len(ci) >= len(all) {
		t.Errorf("ci has %d of %d faults, %v", len(ci), len(all), err)
	}
	if _, err := chooseFaults("sender-kill,no-such"); err == nil || !strings.Contains(err.Error(), "no-such") {
		t.Errorf("an unknown fault: %v", err)
	}
}
