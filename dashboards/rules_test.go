package dashboards

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// promtool runs Prometheus's tool, or fails the test with the reason.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is not in PATH, and this test needs the real one: apt-get install prometheus (Debian, Ubuntu), brew install prometheus (macOS)")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	return names
}

// TestRules has Prometheus judge the rules, and run their unit tests.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool(t, append([]string{"check", "rules", "--lint-fatal"}, files(t, "rules/*.yaml")...)...)
	promtool(t, append([]string{"test", "rules"}, files(t, "rules/tests/*.yaml")...)...)
	promtool(t, "check", "config", "prometheus.yml")
}

// alert is what the tests read of an alert rule.
type alert struct{ name, severity, runbook, text string }

var (
	alertStart = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
	severity   = regexp.MustCompile(`(?m)^ +severity: (\w+)$`)
	runbookURL = regexp.MustCompile(`(?m)^ +runbook_url: (\S+)$`)
)

// alerts returns all alerts of the rules.
func alerts(t *testing.T) []alert {
	t.Helper()
	var all []alert
	first := func(re *regexp.Regexp, text string) string {
		if m := re.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return ""
	}
	for _, file := range files(t, "rules/*.yaml") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		starts := alertStart.FindAllStringSubmatchIndex(string(raw), -1)
		for i, m := range starts {
			end := len(raw)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			text := string(raw[m[0]:end])
			all = append(all, alert{string(raw[m[2]:m[3]]), first(severity, text), first(runbookURL, text), text})
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d alerts were found", len(all))
	}
	return all
}

// TestAlertsAreComplete: each alert says how urgent it is and what it means, has a
// unit test, and a paragraph in the runbook.
func TestAlertsAreComplete(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, file := range files(t, "rules/tests/*.yaml") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(raw)
	}
	known := make(map[string]bool)
	for _, a := range alerts(t) {
		if known[a.name] {
			t.Errorf("there are two alerts %s", a.name)
		}
		known[a.name] = true
		if a.severity != "page" && a.severity != "ticket" {
			t.Errorf("%s has the severity %q", a.name, a.severity)
		}
		for _, annotation := range []string{"summary: ", "description: "} {
			if !strings.Contains(a.text, annotation) {
				t.Errorf("%s lacks its %s", a.name, annotation)
			}
		}
		if a.runbook != runbook+strings.ToLower(a.name) {
			t.Errorf("%s has the runbook %q", a.name, a.runbook)
		}
		if !strings.Contains(tests.String(), `alertname="`+a.name+`",alertstate="firing"`) {
			t.Errorf("no unit test has %s fire", a.name)
		}
		// GitHub makes the anchor of a heading from its lower-case text.
		_, paragraph, ok := strings.Cut(string(manual), "\n### "+a.name+"\n\n")
		if paragraph, _, _ = strings.Cut(paragraph, "\n#"); !ok || len(paragraph) < 100 {
			t.Errorf("docs/OPERATIONS.md has no paragraph for %s", a.name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Sealpost\w+)$`).FindAllStringSubmatch(string(manual), -1) {
		if !known[m[1]] {
			t.Errorf("docs/OPERATIONS.md explains %s, which does not exist", m[1])
		}
	}
}
