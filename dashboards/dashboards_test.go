package dashboards

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write grafana/*.json and rules/slo.yaml anew")

// TestJSONIsUpToDate compares the JSON with the tables.
func TestJSONIsUpToDate(t *testing.T) {
	t.Parallel()
	var files []string
	for _, d := range All() {
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("grafana", d.UID+".json")
		files = append(files, file)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is out of date (%v). Make it anew: go test ./dashboards -run UpToDate -update", file, err)
		}
	}
	there, err := filepath.Glob("grafana/*.json")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	if !slices.Equal(there, files) {
		t.Errorf("grafana holds %v, want %v", there, files)
	}
}

// TestRulesAreUpToDate compares the rules of the objectives with their table.
func TestRulesAreUpToDate(t *testing.T) {
	t.Parallel()
	const file = "rules/slo.yaml"
	want := []byte(Rules())
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is out of date (%v). Make it anew: go test ./dashboards -run UpToDate -update", file, err)
	}
}

// TestPanelsAreComplete: what Grafana shows has a name, an explanation and a
// unit, and lies where nothing else does.
func TestPanelsAreComplete(t *testing.T) {
	t.Parallel()
	uids := make(map[string]bool)
	for _, d := range All() {
		raw, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var page grafanaDashboard
		if err := json.Unmarshal(raw, &page); err != nil {
			t.Fatal(err)
		}
		if uids[page.UID] || page.UID == "" || page.Title == "" || page.Description == "" || len(page.Links) == 0 {
			t.Errorf("the dashboard %q (%q) lacks something, or its uid is taken", page.UID, page.Title)
		}
		uids[page.UID] = true
		ids, titles, taken := make(map[int]bool), make(map[string]bool), make(map[[2]int]string)
		for i, p := range page.Panels {
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s, %q: its id %d is taken", page.UID, p.Title, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if taken[[2]int{x, y}] != "" || x >= 24 {
						t.Fatalf("%s: %q lies over %q or beyond the edge", page.UID, p.Title, taken[[2]int{x, y}])
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				clear(titles)
				continue
			}
			if p.Title == "" || titles[p.Title] || len(p.Description) < 20 || !strings.HasSuffix(p.Description, ".") || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
				t.Errorf("%s, panel %d %q lacks a title of its own, a description, a unit or a query", page.UID, i, p.Title)
			}
			titles[p.Title] = true
			for _, q := range p.Targets {
				lintQuery(t, page.UID+", "+p.Title, q.Expr)
				if len(p.Targets) > 1 && q.LegendFormat == "" {
					t.Errorf("%s, %q: a query among several has no legend", page.UID, p.Title)
				}
			}
		}
	}
}

var (
	counter  = regexp.MustCompile(`\b[a-z_]+_total\b(\{[^}]*\})?(\[?)`)
	anyRange = regexp.MustCompile(`\[([^\]]*)\]`)
)

// lintQuery has the ideas of Grafana's dashboard-linter.
func lintQuery(t *testing.T, where, expr string) {
	t.Helper()
	for _, m := range counter.FindAllStringSubmatch(expr, -1) {
		if m[2] != "[" {
			t.Errorf("%s: %s is a counter and has no rate or increase", where, m[0])
		}
	}
	for _, m := range anyRange.FindAllStringSubmatch(expr, -1) {
		if m[1] != "$__rate_interval" && m[1] != "$__range" {
			t.Errorf("%s: the range [%s] does not follow Grafana's", where, m[1])
		}
	}
	if strings.Contains(expr, "sealpost_") && !strings.Contains(expr, selector) {
		t.Errorf("%s: the query does not follow the choice of job and instance: %s", where, expr)
	}
}

// documented returns the names of all metrics in docs/METRICS.md.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(string(text), -1) {
		names[m[1]] = true
		if m[2] == "histogram" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				names[m[1]+suffix] = true
			}
		}
	}
	if len(names) < 80 {
		t.Fatalf("docs/METRICS.md lists only %d names", len(names))
	}
	return names
}

var metricName = regexp.MustCompile(`\b(?:sealpost|go|process)_[a-z_]+\b`)

// TestMetricsExist: every metric of a dashboard or a rule is documented, and
// thereby exposed by a program.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	names := documented(t)
	check := func(where, text string) {
		for _, name := range metricName.FindAllString(text, -1) {
			if !names[name] {
				t.Errorf("%s uses %s, which docs/METRICS.md does not list", where, name)
			}
		}
	}
	for _, d := range All() {
		for _, p := range d.Panels() {
			for _, q := range p.Queries {
				check(d.UID+", "+p.Title, q.Expr)
			}
		}
	}
	for _, v := range Variables() {
		check("variable "+v.Name, v.Query)
	}
	rules, err := filepath.Glob("rules/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range rules {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		check(file, string(text))
	}
}

// TestDocumentsNamePanels: every panel that a document sends its reader to is
// there. A document names one like *Gateway › Flush, depth*.
func TestDocumentsNamePanels(t *testing.T) {
	t.Parallel()
	panels := make(map[string]bool)
	for _, d := range All() {
		_, name, _ := strings.Cut(d.Title, " / ")
		for _, p := range d.Panels() {
			panels[name+" › "+p.Title] = true
		}
	}
	for file, least := range map[string]int{"../docs/METRICS.md": 30, "../docs/OPERATIONS.md": 10} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile(`\*([A-Z][^*|]* › [^*|]+)\*`).FindAllStringSubmatch(string(text), -1)
		for _, m := range named {
			if !panels[m[1]] {
				t.Errorf("%s names the panel %q, which does not exist", file, m[1])
			}
		}
		if len(named) < least {
			t.Errorf("%s names only %d panels", file, len(named))
		}
	}
}
