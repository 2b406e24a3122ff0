package top

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestCompare makes rates and quantiles of two scrapes of two processes.
func TestCompare(t *testing.T) {
	t.Parallel()
	a, b := newProcess(t, nil), newProcess(t, nil)
	v := newView(t, a, b)
	a.accepted.Add(1000) // of earlier
	a.latency.Observe(0.35)
	first := v.lookAround(t.Context())
	start := v.compare(look{}, first)
	if f := start.flow(t, "events accepted"); !math.IsNaN(f.rate) || !math.IsNaN(f.p50) {
		t.Errorf("after a single look: %+v", f)
	}
	a.accepted.Add(30)
	b.accepted.Add(10)
	a.failures.WithLabelValues("timeout").Add(6)
	b.failures.WithLabelValues("timeout").Add(4)
	b.failures.WithLabelValues("dns").Add(20)
	for range 10 {
		a.latency.Observe(0.05)
		b.latency.Observe(0.15)
	}
	a.requests.WithLabelValues("POST /api/v1/events").Observe(0.05)
	a.requests.WithLabelValues("GET /api/v1/webhooks").Observe(0.15)
	a.inFlight.Set(3)
	b.inFlight.Set(4)
	s := v.compare(first, v.later(t, first, 2))
	if f := s.flow(t, "events accepted"); f.rate != 20 || f.p99 > 0.1 {
		t.Errorf("%+v; want 20 a second, and nothing but the publishing routes", f)
	}
	if f := s.flow(t, "failed attempts"); f.rate != 15 || f.note != "dns 10.0, timeout 5.0" {
		t.Errorf("%+v", f)
	}
	if f := s.flow(t, "delivered"); math.Abs(f.p50-0.1) > 1e-9 || f.p99 < 0.19 || f.p99 > 0.2 {
		t.Errorf("%+v", f)
	}
	if s.inFlight != 7 || s.gateways != 2 || s.senders != 2 || len(s.silent) != 0 {
		t.Errorf("%+v", s)
	}
}

// TestRestart: a process that begins again counts from nothing, even when it has
// counted more than before.
func TestRestart(t *testing.T) {
	t.Parallel()
	p := newProcess(t, nil)
	v := newView(t, p)
	p.accepted.Add(5)
	p.latency.Observe(0.3)
	first := v.lookAround(t.Context())
	p.started.Set(2)
	p.accepted.Add(15)
	s := v.compare(first, v.later(t, first, 1))
	if f := s.flow(t, "events accepted"); f.rate != 20 {
		t.Errorf("%+v; want 20", f)
	}
	if f := s.flow(t, "delivered"); math.IsNaN(f.p50) {
		t.Errorf("%+v; want what it saw since its start", f)
	}
}

// TestSilentProcesses are named with the reason, and the others are shown.
func TestSilentProcesses(t *testing.T) {
	t.Parallel()
	p := newProcess(t, nil)
	v := newView(t, p)
	broken := newProcess(t, nil)
	v.o.Senders = []string{"127.0.0.1:1", broken.address + "/nowhere"}
	v.addresses = append([]string{p.address}, v.o.Senders...)
	l := v.lookAround(t.Context())
	s := v.compare(look{}, l)
	if s.gateways != 1 || s.senders != 0 || len(s.silent) != 2 || !strings.Contains(s.silent[0], "connection refused") || !strings.HasSuffix(s.silent[1], "/metrics is answered with 404") {
		t.Errorf("%d gateways, %d senders, silent %q", s.gateways, s.senders, s.silent)
	}
	if err := nobody(&l); err != nil {
		t.Error(err)
	}
	if err := nobody(&look{redisErr: errors.New("away")}); err == nil {
		t.Error("nobody answers, and that is no error")
	}
}

// TestMetricsThatAreNone are an error, and so is too much of them.
func TestMetricsThatAreNone(t *testing.T) {
	t.Parallel()
	if _, err := parse("sealpost_x{ 1"); err == nil {
		t.Error("half a line is accepted")
	}
	long := newProcess(t, map[string]http.HandlerFunc{"GET /x/metrics": func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Repeat("# \n", maxAnswer/3+1))
	}})
	v := newView(t, long)
	if s := fetch(t.Context(), v.client, long.address+"/x"); s.err == nil || !strings.Contains(s.err.Error(), "longer") {
		t.Errorf("an endless answer: %v", s.err)
	}
}

// TestWorstEndpoints reads the answers that senders may give.
func TestWorstEndpoints(t *testing.T) {
	t.Parallel()
	top := func(status int, text string) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{"GET /top": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, text)
		}}
	}
	const e1 = `{"organization":"acme","endpoint":"e1","failed":12,"slow":2,"slowest_seconds":1.5,"last_reason":"timeout","more":[1]}`
	one := []trouble{{"acme", "e1", 12, 2, 1.5, "timeout"}}
	for _, tt := range []struct {
		name   string
		status int
		answer string
		want   []trouble
		err    string
	}{
		{"a list", 200, "[" + e1 + "]", one, ""},
		{"an object", 200, `{"since":"2026-11-24T07:00:00Z","endpoints":[` + e1 + `]}`, one, ""},
		{"none", 200, `{"endpoints":[]}`, nil, ""},
		{"not there", 404, ``, nil, "not available"},
		{"failing", 500, `[]`, nil, "answered with 500"},
		{"no JSON", 200, `<html>`, nil, "cannot be read"},
		{"another form", 200, `[{"endpoint":7}]`, nil, "cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := newView(t, newProcess(t, top(tt.status, tt.answer)))
			l := v.lookAround(t.Context())
			if (l.worstErr == nil) != (tt.err == "") || l.worstErr != nil && !strings.Contains(l.worstErr.Error(), tt.err) {
				t.Errorf("error %v, want %q", l.worstErr, tt.err)
			}
			if diff := cmp.Diff(tt.want, l.worst, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("two senders, one without", func(t *testing.T) {
		t.Parallel()
		second := `[{"endpoint":"e2","failed":13},{"organization":"acme","endpoint":"e1","failed":3,"slowest_seconds":9,"last_reason":"dns"}]`
		v := newView(t, newProcess(t, top(200, "["+e1+"]")), newProcess(t, nil), newProcess(t, top(200, second)))
		l := v.lookAround(t.Context())
		if l.worstErr != nil || len(l.worst) != 2 || l.worst[0].Failed != 15 || l.worst[0].Slowest != 9 || l.worst[0].Slow != 2 || l.worst[1].Endpoint != "e2" {
			t.Errorf("%+v, %v", l.worst, l.worstErr)
		}
	})
	if n := len(merge(make([]trouble, 3))); n != 1 {
		t.Errorf("one endpoint three times makes %d", n)
	}
	many := make([]trouble, 2*maxWorst)
	for i := range many {
		many[i].Endpoint = fmt.Sprint(i)
	}
	if n := len(merge(many)); n != maxWorst {
		t.Errorf("%d endpoints are kept", n)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Interval: MinInterval - 1}, {Interval: time.Second, Gateways: make([]string, MaxAddresses+1)}} {
		if err := Run(t.Context(), o); err == nil {
			t.Errorf("accepted: %v, %d addresses", o.Interval, len(o.Gateways))
		}
	}
}
