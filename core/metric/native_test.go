package metric

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestHistogram: every histogram is a classic one, and a native one only where
// the registerer asks for it.
func TestHistogram(t *testing.T) {
	t.Parallel()
	for name, registerer := range map[string]func(prometheus.Registerer) prometheus.Registerer{
		"classic": func(r prometheus.Registerer) prometheus.Registerer { return r },
		"native":  Native,
	} {
		registry := prometheus.NewPedanticRegistry()
		r := registerer(registry)
		h := prometheus.NewHistogram(Histogram(r, prometheus.HistogramOpts{Name: "h_seconds", Help: "H.", Buckets: []float64{1, 2}}))
		if err := r.Register(h); err != nil {
			t.Fatal(err)
		}
		h.Observe(1.5)
		families, err := registry.Gather()
		if err != nil || len(families) != 1 {
			t.Fatalf("%v, %v", families, err)
		}
		got := families[0].GetMetric()[0].GetHistogram()
		if len(got.GetBucket()) != 2 || got.GetBucket()[1].GetCumulativeCount() != 1 {
			t.Errorf("%s: the classic buckets are %v", name, got.GetBucket())
		}
		if isNative := len(got.GetPositiveSpan()) > 0; isNative != (name == "native") {
			t.Errorf("%s: native buckets: %t", name, isNative)
		}
	}
	if o := Histogram(nil, prometheus.HistogramOpts{Name: "h"}); o.NativeHistogramBucketFactor != 0 {
		t.Error("without a registerer the histogram is native")
	}
}
