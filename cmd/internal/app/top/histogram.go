package top

import (
	"math"
	"slices"
)

// bucket counts what a histogram saw up to a bound.
type bucket struct {
	upTo  float64 // seconds; +Inf in the last
	count float64 // cumulative
}

// histogram is a classic one, its buckets in ascending order.
type histogram []bucket

// plus adds the counts of two histograms with the same buckets. Where they
// differ (two versions side by side), only the common bounds are left.
func (h histogram) plus(other histogram) histogram {
	if len(h) == 0 {
		return slices.Clone(other)
	}
	var sum histogram
	for _, b := range h {
		if i := slices.IndexFunc(other, func(o bucket) bool { return o.upTo == b.upTo }); i >= 0 {
			sum = append(sum, bucket{b.upTo, b.count + other[i].count})
		}
	}
	return sum
}

// since returns what came in after an earlier state. An earlier one that does
// not fit was that of another process: then everything is new.
func (h histogram) since(earlier histogram) histogram {
	if len(earlier) != len(h) {
		return h
	}
	diff := slices.Clone(h)
	for i := range diff {
		if diff[i].upTo != earlier[i].upTo || diff[i].count < earlier[i].count {
			return h
		}
		diff[i].count -= earlier[i].count
	}
	return diff
}

// quantile estimates the value below which the part q of all values lies, as
// Prometheus does: evenly spread within a bucket, the last bound for what is
// above it. Of no values it is NaN.
func (h histogram) quantile(q float64) float64 {
	if len(h) == 0 || h[len(h)-1].count == 0 {
		return math.NaN()
	}
	rank := q * h[len(h)-1].count
	i := slices.IndexFunc(h, func(b bucket) bool { return b.count >= rank })
	var lower, below float64
	if i > 0 {
		lower, below = h[i-1].upTo, h[i-1].count
	}
	if math.IsInf(h[i].upTo, 1) {
		return lower
	}
	if h[i].count == below {
		return lower
	}
	return lower + (h[i].upTo-lower)*(rank-below)/(h[i].count-below)
}
