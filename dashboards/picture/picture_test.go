package picture

import (
	"bytes"
	"image/png"
	"math"
	"testing"

	"github.com/sealpost/sealpost/dashboards"
)

// TestDraw draws every dashboard with much, little and no data.
func TestDraw(t *testing.T) {
	t.Parallel()
	for _, d := range dashboards.All() {
		fetched := 0
		var picture bytes.Buffer
		err := Draw(&picture, &d, func(*dashboards.Panel) []Series {
			fetched++
			switch fetched % 4 {
			case 0:
				return nil
			case 1:
				return []Series{{Name: "none", Times: []float64{1, 2}, Values: []float64{math.NaN(), math.Inf(1)}}}
			case 2:
				return []Series{{Name: "zero", Times: []float64{1, 2}, Values: []float64{0, 0}}}
			default:
				return []Series{
					{Name: "a", Times: []float64{1, 2, 3, 30}, Values: []float64{1, math.NaN(), 2e6, 3}},
					{Name: "b", Times: []float64{1, 2}, Values: []float64{0.001, 0.002}},
				}
			}
		})
		if err != nil || fetched != len(d.Panels()) {
			t.Fatalf("%s: %d panels were drawn, %v", d.Title, fetched, err)
		}
		config, err := png.DecodeConfig(&picture)
		if err != nil || config.Width != pageWidth || config.Height < 500 {
			t.Errorf("%s: a picture of %d by %d, %v", d.Title, config.Width, config.Height, err)
		}
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		unit  dashboards.Unit
		value float64
		want  string
	}{
		{dashboards.Seconds, 0.0000123, "12.3 µs"}, {dashboards.Seconds, 0.25, "250 ms"}, {dashboards.Seconds, 61, "61 s"}, {dashboards.Seconds, 0, "0 µs"},
		{dashboards.Bytes, 1536, "1.5 KiB"}, {dashboards.BytesPerSec, 12, "12 B/s"}, {dashboards.Ratio, 0.99912, "99.9 %"}, {dashboards.Ratio, 1, "100 %"},
		{dashboards.Count, 12345, "12.3 k"}, {dashboards.Count, 3, "3"}, {dashboards.PerSecond, 0.05, "0.05 /s"}, {dashboards.EventsPerSec, math.NaN(), "no data"},
	} {
		if got := format(tt.unit, tt.value); got != tt.want {
			t.Errorf("%v of %s is %q, want %q", tt.value, tt.unit, got, tt.want)
		}
	}
}
