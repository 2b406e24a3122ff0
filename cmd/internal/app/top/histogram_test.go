package top

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	inf := math.Inf(1)
	even := histogram{{0.1, 0}, {0.2, 100}, {0.4, 200}, {inf, 200}}
	for _, tt := range []struct {
		name string
		h    histogram
		q    float64
		want float64
	}{
		{"the middle is a bound", even, 0.5, 0.2},
		{"within the second bucket", even, 0.25, 0.15},
		{"within the third", even, 0.75, 0.3},
		{"the greatest", even, 1, 0.4},
		{"within the first", histogram{{0.1, 10}, {inf, 10}}, 0.5, 0.05},
		{"above the last bound", histogram{{0.1, 1}, {0.2, 1}, {inf, 100}}, 0.99, 0.2},
		{"of nothing", histogram{{0.1, 0}, {inf, 0}}, 0.5, math.NaN()},
		{"without buckets", nil, 0.5, math.NaN()},
	} {
		if got := tt.h.quantile(tt.q); !cmp.Equal(got, tt.want, cmpopts.EquateNaNs(), cmpopts.EquateApprox(0, 1e-9)) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestDifferenceOfHistograms(t *testing.T) {
	t.Parallel()
	inf := math.Inf(1)
	now := histogram{{0.1, 5}, {inf, 9}}
	for _, tt := range []struct {
		name    string
		earlier histogram
		want    histogram
	}{
		{"growth", histogram{{0.1, 2}, {inf, 3}}, histogram{{0.1, 3}, {inf, 6}}},
		{"nothing before", nil, now},
		{"restarted", histogram{{0.1, 6}, {inf, 9}}, now},
		{"other buckets", histogram{{0.2, 1}, {inf, 2}}, now},
	} {
		if diff := cmp.Diff(tt.want, now.since(tt.earlier), cmp.AllowUnexported(bucket{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	sum := now.plus(histogram{{0.1, 1}, {0.2, 2}, {inf, 3}})
	if diff := cmp.Diff(histogram{{0.1, 6}, {inf, 12}}, sum, cmp.AllowUnexported(bucket{})); diff != "" {
		t.Errorf("sum (-want +got):\n%s", diff)
	}
}
