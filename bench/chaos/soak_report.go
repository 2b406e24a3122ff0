package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Names of series; those that end in a blank go before the name of an elder.
const (
	rssOf        = "resident MiB of "
	heapOf       = "heap MiB after a collection of "
	goroutinesOf = "goroutines of "
	filesOf      = "open files of "
	restKeys     = "keys without those three"
	idemKeys     = "idempotency keys, 24 h"
	doneKeys     = "marks of bundles, 5 min"
	statKeys     = "asynq's counts, 90 days"
	allKeys      = "keys in all"
	redisMemory  = "used MiB of Redis"
	redisClients = "connections to Redis"
)

const (
	warmUp      = 2 // samples that are left out: pools and maps are filled in them
	leastJudged = 6 // samples behind them from which on slopes are judged
)

// soakReport is what a soak measured.
type soakReport struct {
	Capacity     float64            `json:"capacity_per_s,omitempty"` // deliveries
	Rate         float64            `json:"rate_per_s"`               // deliveries
	FaultsFor    float64            `json:"faults_s"`                 // in each round
	Faults       map[string]int     `json:"faults"`
	StartedAgain int                `json:"started_again"` // programs that did not start at once after a fault
	Samples      []soakSample       `json:"samples"`       // one a round, when all is quiet
	Families     []map[string]int   `json:"families"`      // keys by pattern, parallel to the samples
	Trends       []trend            `json:"trends"`
	Peaks        map[string]float64 `json:"peak_mib"`
}

// soakSample is what each series was once.
type soakSample struct {
	At     float64            `json:"at_s"`
	Values map[string]float64 `json:"values"`
}

func newSoakReport() *soakReport {
	return &soakReport{Faults: make(map[string]int), Peaks: make(map[string]float64)}
}

func (r *soakReport) add(at time.Duration, values map[string]float64) {
	r.Samples = append(r.Samples, soakSample{at.Seconds(), values})
	r.Trends = r.trends()
}

func (r *soakReport) peak(process string, mib float64) {
	r.Peaks[process] = max(r.Peaks[process], mib)
}

// series lists those that are told, in order, with what each may grow in an hour at
// its mean; nil: as much as it likes.
func (r *soakReport) series() (names []string, allowed map[string]func(mean float64) float64) {
	memory := func(mean float64) float64 { return max(0.05*mean, 4) } // MiB
	number := func(float64) float64 { return 12 }                     // two in ten minutes
	allowed = map[string]func(float64) float64{restKeys: number}
	for _, elder := range []string{elderGateway, elderSender} {
		for _, of := range []string{rssOf, heapOf} {
			names, allowed[of+elder] = append(names, of+elder), memory
		}
		for _, of := range []string{goroutinesOf, filesOf} {
			names, allowed[of+elder] = append(names, of+elder), number
		}
	}
	return append(names, restKeys, idemKeys, doneKeys, statKeys, allKeys, redisMemory, redisClients), allowed
}

// trend is where a series goes.
type trend struct {
	Series  string   `json:"series"`
	First   float64  `json:"first"` // behind the warm-up
	Last    float64  `json:"last"`
	Mean    float64  `json:"mean"`
	Slope   float64  `json:"slope_per_h"`
	Error   float64  `json:"standard_error_per_h"`
	Allowed *float64 `json:"allowed_per_h,omitempty"` // nil: not judged
	Samples int      `json:"samples"`
}

// grows reports whether the slope is above what is allowed by more than its own
// uncertainty: two standard errors, which chance exceeds once in forty times or so.
func (t *trend) grows() bool {
	return t.Allowed != nil && t.Samples >= leastJudged && t.Slope-2*t.Error > *t.Allowed
}

func (t *trend) verdict() string {
	switch {
	case t.Allowed == nil:
		return "not judged"
	case t.Samples < leastJudged:
		return "too few samples"
	case t.grows():
		return "GROWS"
	}
	return "kept"
}

func (r *soakReport) trends() []trend {
	samples := r.Samples[min(warmUp, len(r.Samples)-1):]
	names, allowed := r.series()
	var ts []trend
	for _, name := range names {
		t := trend{Series: name, Samples: len(samples)}
		at, values := make([]float64, len(samples)), make([]float64, len(samples))
		for i, s := range samples {
			at[i], values[i] = s.At/3600, s.Values[name]
		}
		t.First, t.Last = values[0], values[len(values)-1]
		t.Mean, t.Slope, t.Error = line(at, values)
		if f := allowed[name]; f != nil {
			most := f(t.Mean)
			t.Allowed = &most
		}
		ts = append(ts, t)
	}
	return ts
}

// line fits a line by least squares: the mean of y, the slope, and the slope's
// standard error, which is 0 for fewer than three points.
func line(x, y []float64) (mean, slope, uncertain float64) {
	n := float64(len(x))
	var mx float64
	for i := range x {
		mx += x[i] / n
		mean += y[i] / n
	}
	var sxx, sxy float64
	for i := range x {
		sxx += (x[i] - mx) * (x[i] - mx)
		sxy += (x[i] - mx) * (y[i] - mean)
	}
	if sxx == 0 {
		return mean, 0, 0
	}
	slope = sxy / sxx
	if len(x) < 3 {
		return mean, slope, 0
	}
	var rest float64
	for i := range x {
		d := y[i] - mean - slope*(x[i]-mx)
		rest += d * d
	}
	return mean, slope, math.Sqrt(rest / (n - 2) / sxx)
}

// judge returns what is worse than promised.
func (r *soakReport) judge() (problems []string) {
	for _, t := range r.Trends {
		if t.grows() {
			problems = append(problems, fmt.Sprintf("%s: grows by %.1f ± %.1f an hour, allowed are %.1f", t.Series, t.Slope, t.Error, *t.Allowed))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Peaks)) {
		if most := ceiling(name); most > 0 && r.Peaks[name] > most {
			problems = append(problems, fmt.Sprintf("%s took %.0f MiB, its ceiling is %.0f", name, r.Peaks[name], most))
		}
	}
	return problems
}

// print writes the tables.
func (r *soakReport) print(out io.Writer) {
	fmt.Fprintf(out, "\nSoak: capacity %.0f deliveries/s, published for %.0f; %d rounds of %.0f s of faults and then quiet, in which the samples are taken; the first %d are left out\n\n",
		r.Capacity, r.Rate, len(r.Samples), r.FaultsFor, warmUp)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "series\tfirst\tlast\tmean\tslope per hour\t± standard error\tallowed\tverdict\t")
	for _, s := range r.Trends {
		allowed := "–"
		if s.Allowed != nil {
			allowed = fmt.Sprintf("%.1f", *s.Allowed)
		}
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%.1f\t%+.1f\t%.1f\t%s\t%s\t\n", s.Series, s.First, s.Last, s.Mean, s.Slope, s.Error, allowed, s.verdict())
	}
	fmt.Fprintln(t, "\nprocess\tmost MiB resident\tceiling\t")
	for _, name := range slices.Sorted(maps.Keys(r.Peaks)) {
		most := "–"
		if c := ceiling(name); c > 0 {
			most = fmt.Sprintf("%.0f", c)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%s\t\n", name, r.Peaks[name], most)
	}
	fmt.Fprintln(t, "\nfault\ttimes\t")
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(t, "%s\t%d\t\n", name, r.Faults[name])
	}
	fmt.Fprintf(t, "a program did not start at once\t%d\t\n", r.StartedAgain)
	t.Flush()
}

// save writes soak.json and soak.svg.
func (r *soakReport) save(dir string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	var picture strings.Builder
	r.draw(&picture)
	return errors.Join(os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "soak.json"), append(raw, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "soak.svg"), []byte(picture.String()), 0o644))
}
