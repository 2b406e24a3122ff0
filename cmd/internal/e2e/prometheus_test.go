package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// prometheus is a real Prometheus that scrapes the programs of a system and
// evaluates the rules of dashboards/rules. A scrape takes a second while Redis does
// not answer, so there are two seconds for one.
type prometheus struct {
	t       *testing.T
	url     string
	targets string // file with the addresses to scrape
}

const prometheusConfig = `
global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}
rule_files: ["rules/*.yaml"]
scrape_configs:
  - job_name: sealpost
    file_sd_configs: [{files: ["targets.json"], refresh_interval: 1s}]
`

// These make the rules quick: evaluated each second, and firing as soon as their
// condition holds.
var (
	ruleInterval = regexp.MustCompile(`(?m)^( +)interval: \w+$`)
	ruleFor      = regexp.MustCompile(`(?m)^( +)for: \w+$`)
)

// startPrometheus starts a Prometheus with a clean store for a test.
func startPrometheus(t *testing.T) *prometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("prometheus is not in PATH, and these tests need a real one: apt-get install prometheus (Debian, Ubuntu), brew install prometheus (macOS)")
	}
	dir := t.TempDir()
	p := &prometheus{t: t, targets: filepath.Join(dir, "targets.json")}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("prometheus.yml", prometheusConfig)
	write("targets.json", "[]")
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range rules(t) {
		text = ruleFor.ReplaceAllString(ruleInterval.ReplaceAllString(text, "${1}interval: 1s"), "${1}for: 0s")
		write(filepath.Join("rules", name), text)
	}
	// Another process may take the port in between; then it is tried with another.
	for try := 1; ; try++ {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		listener.Close()
		p.url = "http://" + address
		if p.run(path, dir, address) {
			return p
		}
		if try == 3 {
			t.Fatal("prometheus does not start")
		}
	}
}

// run starts the process and reports whether it became ready.
func (p *prometheus) run(path, dir, address string) bool {
	p.t.Helper()
	log, err := os.Create(filepath.Join(dir, "prometheus.log"))
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait() // how it ended is in its log
		log.Close()
		close(ended)
	}()
	p.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // fails only when it is gone already
		<-ended
		if p.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			p.t.Logf("log of prometheus:\n%s", text)
		}
	})
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get(p.url + "/-/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-ended:
			return false
		case <-deadline:
			p.t.Fatalf("prometheus is not ready within %v", patience)
		case <-tick.C:
		}
	}
}

// rules returns the files of dashboards/rules by name.
func rules(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../../dashboards/rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the rules: %v, %v", files, err)
	}
	texts := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(text)
	}
	return texts
}

// scrape has the programs of s scraped at the addresses that they have now.
func (p *prometheus) scrape(s *system) {
	p.t.Helper()
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	var groups []group
	for _, program := range slices.Sorted(maps.Keys(s.admin)) {
		address := strings.TrimPrefix(s.admin[program], "http://")
		groups = append(groups, group{[]string{address}, map[string]string{"job": "sealpost-" + program, "instance": program + "-1"}})
	}
	raw, err := json.Marshal(groups)
	if err != nil {
		p.t.Fatal(err)
	}
	// Renamed, so that it is never read half written.
	if err := os.WriteFile(p.targets+".new", raw, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.targets+".new", p.targets); err != nil {
		p.t.Fatal(err)
	}
	for program := range s.admin {
		s.eventually(program+" is scraped", func() bool {
			series := p.query(`up{job="sealpost-` + program + `"} == 1`)
			return len(series) == 1
		})
	}
}

// series is one series of an answer.
type series struct {
	Metric map[string]string
	Value  point   // of an instant query
	Values []point // of a range query
}

// point is a time and a value. JSON has it as [seconds, "value"].
type point struct {
	at    float64
	value float64
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *point) UnmarshalJSON(raw []byte) error {
	var pair [2]json.RawMessage
	var text string
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	if err := json.Unmarshal(pair[0], &p.at); err != nil {
		return err
	}
	if err := json.Unmarshal(pair[1], &text); err != nil {
		return err
	}
	value, err := strconv.ParseFloat(text, 64)
	p.value = value
	return err
}

// get asks Prometheus's API and decodes the answer's data.
func (p *prometheus) get(path string, parameters url.Values, data any) {
	p.t.Helper()
	resp, err := http.Get(p.url + path + "?" + parameters.Encode())
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	answer := struct {
		Status string
		Error  string
		Data   any
	}{Data: data}
	if err := json.Unmarshal(raw, &answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("prometheus answers %s %v with %d %s (%v)", path, parameters, resp.StatusCode, raw, err)
	}
}

// query evaluates an expression now.
func (p *prometheus) query(expr string) []series {
	p.t.Helper()
	var data struct{ Result []series }
	p.get("/api/v1/query", url.Values{"query": {expr}}, &data)
	return data.Result
}

// queryRange evaluates an expression for each second of a span.
func (p *prometheus) queryRange(expr string, from, to time.Time) []series {
	p.t.Helper()
	var data struct{ Result []series }
	p.get("/api/v1/query_range", url.Values{
		"query": {expr}, "start": {fmt.Sprint(from.Unix())}, "end": {fmt.Sprint(to.Unix())}, "step": {"1"},
	}, &data)
	return data.Result
}

// firing returns the names of the alerts that fire.
func (p *prometheus) firing() []string {
	p.t.Helper()
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	p.get("/api/v1/alerts", nil, &data)
	var names []string
	for _, a := range data.Alerts {
		if name := a.Labels["alertname"]; a.State == "firing" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
