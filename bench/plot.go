package main

import (
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plotted names the scenarios whose latency is drawn.
var plotted = []string{"floor", "plain-asynq-steady200", "steady200", "half-load", "single", "batch", "fanout10"}

// plot draws accept → received over the percentile, both axes logarithmic: the
// tail gets as much room as the middle.
func (r *runner) plot(file string) error {
	p := plot.New()
	p.Title.Text = "Event sent to delivery received"
	p.X.Label.Text = "percentile of deliveries"
	p.Y.Label.Text = "milliseconds"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker = plot.ConstantTicks{{Value: 1, Label: "0"}, {Value: 2, Label: "50"}, {Value: 10, Label: "90"}, {Value: 100, Label: "99"}, {Value: 1000, Label: "99.9"}, {Value: 10000, Label: "99.99"}}
	p.Y.Tick.Marker = plot.ConstantTicks(decades())
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(3)
	low, high := math.Inf(1), 0.0
	drawn := 0
	for _, name := range plotted {
		res := r.find(name)
		if res == nil || res.histogram == nil || res.histogram.TotalCount() == 0 {
			continue
		}
		var points plotter.XYs
		for x := 1.0; x <= 10_000 && x <= float64(res.histogram.TotalCount()); x *= 1.08 {
			y := float64(res.histogram.ValueAtQuantile(100*(1-1/x))) / 1e6
			points = append(points, plotter.XY{X: x, Y: y})
			low, high = min(low, y), max(high, y)
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
		line.Color, line.Width = plotutil.Color(drawn), vg.Points(1.8)
		p.Add(line)
		p.Legend.Add(strings.TrimSpace(fmt.Sprintf("%s %s (%.0f/s)", res.Scenario, res.Variant, res.DeliveredPerSecond)), line)
		drawn++
	}
	if drawn == 0 {
		return nil
	}
	p.X.Min, p.X.Max = 1, 14_000         // room for the last label
	p.Y.Min, p.Y.Max = low/1.5, high*500 // and for the legend
	return p.Save(24*vg.Centimeter, 15*vg.Centimeter, file)
}

// decades returns ticks at 1, 2 and 5 times each power of ten.
func decades() []plot.Tick {
	var ticks []plot.Tick
	for exp := -2; exp <= 6; exp++ {
		for _, digit := range []float64{1, 2, 5} {
			v := digit * math.Pow(10, float64(exp))
			ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g", v)})
		}
	}
	return ticks
}
