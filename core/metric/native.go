// Package metric holds what the metrics of all packages have in common.
package metric

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of a native histogram: buckets that grow by a tenth, at most so many of
// them, and how long one that outgrew that is kept before it begins anew.
const (
	nativeGrowth   = 1.1
	nativeBuckets  = 160
	nativeMinReset = time.Hour
)

// native marks a registerer whose histograms are native ones too.
type native struct{ prometheus.Registerer }

// Native returns a registerer that is r, and that makes Histogram add native
// buckets to the classic ones. A Prometheus that is told to scrape native
// histograms drops the classic buckets before version 2.45, and the dashboards
// are made of those: so this is for whoever asks for it.
func Native(r prometheus.Registerer) prometheus.Registerer { return native{r} }

// Histogram returns o as the registerer r, which may be nil, wants histograms.
func Histogram(r prometheus.Registerer, o prometheus.HistogramOpts) prometheus.HistogramOpts {
	if _, ok := r.(native); ok {
		o.NativeHistogramBucketFactor = nativeGrowth
		o.NativeHistogramMaxBucketNumber = nativeBuckets
		o.NativeHistogramMinResetDuration = nativeMinReset
	}
	return o
}
