package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
	"github.com/sealpost/sealpost/core/leaktest"
)

// TestMain runs the processes of plain-asynq, which bench starts from its own
// binary: here, the test's.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "--plain") {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(leaktest.Run(m))
}

// TestEveryScenario runs all of them for a second each. It judges that nothing is
// lost or doubled and that the report is complete, never how fast it was.
func TestEveryScenario(t *testing.T) {
	bin, out := t.TempDir(), t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "../cmd/gateway", "../cmd/sender")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, text)
	}
	if status := run([]string{"--quick", "--scenario", strings.Join(scenarioNames(), ","), "--bin", bin, "--out", out}); status != 0 {
		t.Fatalf("bench ends with status %d", status)
	}
	raw, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Results []result `json:"results"`
		Goals   []goal   `json:"goals"`
	}
	if err := json.Unmarshal(raw, &report); err != nil {
		t.Fatal(err)
	}
	for _, name := range scenarioNames() {
		found, sum := 0, result{}
		for _, r := range report.Results {
			if r.Scenario == name {
				found++
				sum.Accepted, sum.Delivered = sum.Accepted+r.Accepted, sum.Delivered+r.Delivered
				sum.Lost, sum.Duplicated, sum.Forged = sum.Lost+r.Lost, sum.Duplicated+r.Duplicated, sum.Forged+r.Forged
			}
		}
		if found == 0 {
			t.Errorf("%s is not in the report", name)
		} else if name != "idle" && (sum.Delivered == 0 || sum.Accepted == 0 || sum.Lost+int(sum.Duplicated)+int(sum.Forged) != 0) {
			t.Errorf("%s: %+v", name, sum)
		}
	}
	if len(report.Goals) < 18 {
		t.Errorf("%d goals are judged, want at least 18", len(report.Goals))
	}
	svg, err := os.ReadFile(filepath.Join(out, "latency.svg"))
	if err != nil || !strings.Contains(string(svg), "</svg>") {
		t.Errorf("the plot: %v, %d bytes", err, len(svg))
	}
}

func TestEventRoundTrip(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 400, 1000, 5000} {
		p := lab.NewPayloads(size)
		for _, seq := range []uint64{0, 63, 64, 4_000_000_000} {
			sent := time.Unix(0, 1_764_000_000_123_456_789)
			body := p.AppendEvent(nil, seq, sent)
			var event struct{ Data json.RawMessage }
			if err := json.Unmarshal(body, &event); err != nil || len(event.Data) != size {
				t.Fatalf("size %d: data of %d bytes, %v", size, len(event.Data), err)
			}
			if gotSeq, gotSent, ok := lab.ReadEvent(body); !ok || gotSeq != seq || !gotSent.Equal(sent) {
				t.Errorf("size %d: read %d, %v, %t; want %d, %v", size, gotSeq, gotSent, ok, seq, sent)
			}
		}
	}
	if _, _, ok := lab.ReadEvent([]byte(`{"seq":"12`)); ok {
		t.Error("a cut event is read")
	}
}

// The books must notice a loss and a repetition, or they prove nothing.
func TestLedgerNotices(t *testing.T) {
	t.Parallel()
	l := newLedger(2, 10)
	first, ok := l.take(3)
	if !ok || first != 0 {
		t.Fatalf("take = %d, %t", first, ok)
	}
	now := time.Unix(0, 1_764_000_000_000_000_000)
	l.accept(first, 3, 0)
	for seq := range uint64(3) {
		for e := range 2 {
			if seq == 1 && e == 1 {
				continue // lost
			}
			l.receive(seq, e, now, now)
		}
	}
	l.receive(2, 0, now, now) // repeated
	l.receive(99, 0, now, now)
	if lost := l.lost(func(int) bool { return true }); lost != 1 || l.repeats.Load() != 1 || l.forged.Load() != 1 || l.receipts.Load() != 5 {
		t.Errorf("lost %d, repeated %d, forged %d, received %d; want 1, 1, 1, 5", lost, l.repeats.Load(), l.forged.Load(), l.receipts.Load())
	}
	if lost := l.lost(func(e int) bool { return e == 0 }); lost != 0 {
		t.Errorf("lost %d among the endpoints that answer, want 0", lost)
	}
	if _, ok := l.take(8); ok {
		t.Error("more events than the books hold were given out")
	}
}

func TestDisplacement(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		order []uint64
		want  int
	}{
		{nil, 0},
		{[]uint64{0, 1, 2, 3}, 0},
		{[]uint64{1, 0, 3, 2}, 1},
		{[]uint64{0, 2, 3, 4, 1}, 3},
		{[]uint64{4, 3, 2, 1, 0}, 4},
	} {
		var a arrivals
		for _, seq := range c.order {
			a.add(seq)
		}
		if got := a.displacement(); got != c.want {
			t.Errorf("%v: overtaken by %d, want %d", c.order, got, c.want)
		}
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	for outage, want := range map[time.Duration]int{0: 0, time.Second: 1, 3 * time.Second: 2, 7 * time.Second: 3, 8 * time.Second: 3, 2 * time.Minute: 7} {
		if got := probes(outage); got != want {
			t.Errorf("%v: %d probes, want %d", outage, got, want)
		}
	}
}

// Two organizations have books of their own.
func TestSecondOrganization(t *testing.T) {
	t.Parallel()
	var r receiver
	for endpoint, want := range map[int]*books{0: &r.books, secondOrganization - 1: &r.books, secondOrganization: &r.second} {
		if got, number := r.of(endpoint); got != want || number != endpoint%secondOrganization {
			t.Errorf("endpoint %d: number %d in the books of the wrong organization, or the wrong number", endpoint, number)
		}
	}
}
