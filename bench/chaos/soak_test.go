package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

// Books that are folded must still notice what comes too late, and keep the counts.
func TestBooksFold(t *testing.T) {
	t.Parallel()
	b := newBooks(2)
	now := time.Unix(1_764_000_000, 0)
	for range 2 {
		b.take()
	}
	b.accept(0, "a", now)
	b.accept(1, "b", now)
	b.receive(0, 0, "a", now)
	b.receive(0, 1, "a", now.Add(2*time.Second))
	b.fold([]map[string]bool{{"b": true}, {}}) // b is a dead letter at one endpoint, lost at the other
	if seq := b.take(); seq != 2 {
		t.Fatalf("the next event is %d, want 2", seq)
	}
	b.accept(2, "c", now)
	b.receive(2, 0, "c", now.Add(time.Hour))
	b.receive(2, 1, "c", now.Add(time.Hour+time.Second))
	b.receive(1, 0, "b", now.Add(time.Hour)) // of an event that is folded
	b.receive(3, 0, "d", now)                // never published
	lost, buried, accepted := b.missing([]map[string]bool{{}, {}})
	if lost != 1 || buried != 1 || len(accepted) != 1 || b.outstanding != 0 || b.delivered != 4 || b.repeated != 1 || b.folded.late != 1 || b.forged != 1 || b.overtaken != 0 {
		t.Errorf("lost %d, dead %d, outstanding %d, delivered %d, repeated %d, late %d, forged %d, overtaken %d; want 1, 1, 0, 4, 1, 1, 1, 0",
			lost, buried, b.outstanding, b.delivered, b.repeated, b.folded.late, b.forged, b.overtaken)
	}
	if gap := b.gap(); gap != 2*time.Second {
		t.Errorf("the longest gap is %v, want 2s: the rest between two rounds is none", gap)
	}
}

// A soak must notice what grows, and not take noise for growth.
func TestTrends(t *testing.T) {
	t.Parallel()
	r := newSoakReport()
	for i := range 12 {
		noise := []float64{-1, 1, 0}[i%3]
		values := map[string]float64{
			rssOf + elderGateway: 40 + 3*noise, rssOf + elderSender: 40 + float64(i),
			goroutinesOf + elderSender: 100 - float64(i), restKeys: 60 + float64(i), idemKeys: 1000 * float64(i),
		}
		if i < warmUp {
			values[filesOf+elderSender] = -1000 // as if pools had been filled since
		}
		r.add(time.Duration(i)*150*time.Second, values)
		if i < warmUp+leastJudged-1 && len(r.judge()) > 0 {
			t.Errorf("judged after %d samples: %v", i+1, r.judge())
		}
	}
	problems := strings.Join(r.judge(), "\n")
	for _, want := range []string{rssOf + elderSender, restKeys} {
		if !strings.Contains(problems, want) {
			t.Errorf("%s: not noticed in %q", want, problems)
		}
	}
	if n := len(r.judge()); n != 2 {
		t.Errorf("%d problems, want 2: %s", n, problems)
	}
	r.peak("sender-elder", 10_000)
	if n := len(r.judge()); n != 3 {
		t.Errorf("%d problems with a peak above its ceiling, want 3", n)
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	if mean, slope, uncertain := line([]float64{0, 1, 2}, []float64{1, 3, 5}); mean != 3 || slope != 2 || uncertain != 0 {
		t.Errorf("mean %v, slope %v ± %v; want 3, 2 ± 0", mean, slope, uncertain)
	}
	if _, slope, uncertain := line([]float64{0, 1, 2}, []float64{0, 3, 0}); slope != 0 || math.Abs(uncertain-math.Sqrt(3)) > 1e-9 {
		t.Errorf("slope %v ± %v, want 0 ± √3", slope, uncertain)
	}
	if mean, slope, _ := line([]float64{1}, []float64{7}); mean != 7 || slope != 0 {
		t.Errorf("of one point: mean %v, slope %v; want 7, 0", mean, slope)
	}
}

// Ids must not make families, or a sample is as large as Redis.
func TestFamilies(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"sp:key:5e884898da":                       "sp:key",
		"sp:keys":                                 "sp:keys",
		"asynq:queues":                            "asynq:queues",
		"sp:{org:acme}:idem:5e884898da":           "sp:{org}:idem",
		"sp:{org:acme}:version":                   "sp:{org}:version",
		"sp:{ep:f4e9c2a8}:dead:index":             "sp:{ep}:dead:index",
		"sp:{deliver-03}:bundle:0190f3":           "sp:{queue}:bundle",
		"sp:{deliver-03}:bundle:0190f3:done":      "sp:{queue}:bundle:done",
		"sp:{retry-00}:bundle:whd_1:2":            "sp:{queue}:bundle",
		"sp:{retry-00}:bundle:whd_1:2:done":       "sp:{queue}:bundle:done",
		"sp:{drain-00}:backlog:f4e9c2a8":          "sp:{queue}:backlog",
		"asynq:{deliver-03}:t:0190f3":             "asynq:{queue}:t",
		"asynq:{deliver-03}:processed":            "asynq:{queue}:processed",
		"asynq:{deliver-03}:processed:2026-01-01": "asynq:{queue}:processed:day",
		"asynq:servers:{host:1:2}":                "asynq:servers:{queue}:",
	} {
		if got := family(key); got != want {
			t.Errorf("%s is of %s, want %s", key, got, want)
		}
	}
}

// The picture must be XML, also of one sample and of none.
func TestPicture(t *testing.T) {
	t.Parallel()
	r := newSoakReport()
	for i := range 4 {
		var b bytes.Buffer
		r.draw(&b)
		text := b.String()
		if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
			t.Errorf("with %d samples: %s", i, text)
		}
		for d := xml.NewDecoder(&b); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("with %d samples: %v", i, err)
			}
		}
		r.add(time.Duration(i+1)*time.Minute, map[string]float64{restKeys: 60})
	}
}
