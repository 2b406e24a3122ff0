package e2e

import (
	"bytes"
	"flag"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/dashboards"
	"github.com/sealpost/sealpost/dashboards/picture"
)

// pictures has the dashboards drawn, after a longer load; see the Makefile.
var pictures = flag.String("pictures", "", "directory into which to draw the dashboards")

// The load, and the one that is worth a picture.
const (
	shortLoad = 12 * time.Second
	longLoad  = 90 * time.Second
)

// grafana does what Grafana does with a query's variables.
var grafana = strings.NewReplacer("$__rate_interval", "10s", "$__range", "60s", "$job", ".+", "$instance", ".+")

// labelValues is the form of a variable's query.
var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// TestDashboards has a real Prometheus scrape the real programs under a small
// load in which much goes wrong, and executes every query of every panel, and
// every variable: each has to return a number.
func TestDashboards(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "3", "SEALPOST_LOG_LEVEL": "info"})
	p := startPrometheus(t)
	p.scrape(s)
	began := time.Now()
	lasting := shortLoad
	if *pictures != "" {
		lasting = longLoad
	}
	s.load(lasting)
	for _, program := range []string{"gateway", "sender"} {
		checkMetrics(t, s, program)
	}
	// The last retries are behind, and what they were recorded as is scraped.
	s.awaitQueues()
	s.eventually("the end is scraped", func() bool {
		return number(p.query(`sum(sealpost_sender_deliveries_total{status="failed"})`)) == s.metric("sender", "sealpost_sender_deliveries_total", `status="failed"`)
	})
	if hasNumber(p.query("sealpost_made_up_total")) || hasNumber(p.queryRange("0/0*vector(1)", began, time.Now())) {
		t.Fatal("numbers are found where there are none")
	}
	for _, v := range dashboards.Variables() {
		if v.Query == "" {
			continue
		}
		m := labelValues.FindStringSubmatch(grafana.Replace(v.Query))
		if m == nil {
			t.Fatalf("the variable %s has the query %s", v.Name, v.Query)
		}
		var values []string
		p.get("/api/v1/label/"+m[2]+"/values", url.Values{"match[]": {m[1]}}, &values)
		if len(values) != 2 {
			t.Errorf("the variable %s offers %v, want the two programs", v.Name, values)
		}
	}
	end := time.Now()
	fetch := func(panel *dashboards.Panel, q dashboards.Query) []series {
		expr := grafana.Replace(q.PromQL())
		if panel.Kind == dashboards.Stat {
			return p.query(expr)
		}
		return p.queryRange(expr, began, end)
	}
	for _, d := range dashboards.All() {
		for _, panel := range d.Panels() {
			for _, q := range panel.Queries {
				found := fetch(&panel, q)
				if !hasNumber(found) {
					t.Errorf("%s, %s: no data from %s", d.Title, panel.Title, q.Expr)
				}
				if panel.Kind == dashboards.Stat && len(found) > 1 {
					t.Errorf("%s, %s: %d numbers where one is shown: %s", d.Title, panel.Title, len(found), q.Expr)
				}
			}
		}
		if *pictures != "" {
			drawDashboard(t, &d, fetch)
		}
	}
}

// drawDashboard writes the picture of a dashboard.
func drawDashboard(t *testing.T, d *dashboards.Dashboard, fetch func(*dashboards.Panel, dashboards.Query) []series) {
	t.Helper()
	file, err := os.Create(filepath.Join(*pictures, d.UID+".png"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	err = picture.Draw(file, d, func(panel *dashboards.Panel) []picture.Series {
		var curves []picture.Series
		for _, q := range panel.Queries {
			for _, found := range fetch(panel, q) {
				curve := picture.Series{Name: legend(q.Legend, found.Metric)}
				if panel.Kind == dashboards.Stat {
					found.Values = []point{found.Value}
				}
				for _, v := range found.Values {
					curve.Times, curve.Values = append(curve.Times, v.at), append(curve.Values, v.value)
				}
				curves = append(curves, curve)
			}
		}
		return curves
	})
	if err != nil {
		t.Fatal(err)
	}
}

// legend fills in the labels of a series.
func legend(format string, labels map[string]string) string {
	for name, value := range labels {
		format = strings.ReplaceAll(format, "{{"+name+"}}", value)
	}
	return format
}

// load publishes for a while, in every way, to endpoints that fail in every way.
func (s *system) load(lasting time.Duration) {
	s.t.Helper()
	acme := s.client("acme", "admin,publish")
	good := newReceiver(s.t, s.ca, nil)
	acme.subscribe(strings.Replace(good.url(), "127.0.0.1", "localhost", 1), "call.qualified", "lead.created")
	acme.subscribe(newReceiver(s.t, s.ca, answers(http.StatusInternalServerError)).url(), "lead.created")
	acme.subscribe(newReceiver(s.t, s.ca, func(n int, _ *received, w http.ResponseWriter) {
		if n%3 == 0 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}).url(), "lead.created")
	acme.subscribe(newReceiver(s.t, s.ca, answers(http.StatusOK, http.StatusGone)).url(), "lead.created")
	closed := newReceiver(s.t, s.ca, nil)
	acme.subscribe(closed.url(), "lead.created")
	closed.server.Close()
	batch := "[" + strings.TrimSuffix(strings.Repeat(`{"type":"call.qualified","data":{"some":"words to compress"}},`, 40), ",") + "]"
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(lasting); time.Now().Before(end); <-tick.C {
		for _, request := range [][2]string{
			{"", `{"type":"lead.created","data":1}`},
			{"/batch", batch},
			{"", `{"type":"unheard.of","data":1}`},
			{"", `{"type":"call.qualified","data":1,"id":"the-same"}`},
		} {
			if _, err := acme.try("POST", "/api/v1/events"+request[0], request[1]); err != nil {
				s.t.Fatal(err)
			}
		}
		acme.do(http.StatusOK, "GET", "/api/v1/webhooks", "")
		if _, err := (&client{s: s, key: "sp_junk"}).try("GET", "/api/v1/webhooks", ""); err != nil {
			s.t.Fatal(err)
		}
	}
}

// checkMetrics has promtool judge what a program exposes.
func checkMetrics(t *testing.T, s *system, program string) {
	t.Helper()
	_, _, text := s.look(program, "/metrics")
	cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || out.Len() > 0 {
		t.Errorf("promtool check metrics, of %s: %v\n%s", program, err, out.String())
	}
}

// number returns the only number of an answer, NaN if there is none.
func number(found []series) float64 {
	if len(found) != 1 {
		return math.NaN()
	}
	return found[0].Value.value
}

// hasNumber reports whether an answer has a number at all.
func hasNumber(found []series) bool {
	for _, f := range found {
		if f.Values == nil {
			f.Values = []point{f.Value}
		}
		for _, v := range f.Values {
			if !math.IsNaN(v.value) && !math.IsInf(v.value, 0) {
				return true
			}
		}
	}
	return false
}
