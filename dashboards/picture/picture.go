// Package picture draws dashboards, so that a reader of the documents sees what to
// expect without running Grafana. It resembles Grafana, no more.
package picture

import (
	"cmp"
	"fmt"
	"image/color"
	"image/png"
	"io"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/sealpost/sealpost/dashboards"
)

// Sizes in pixels.
const (
	pageWidth  = 1320
	column     = pageWidth / 24 // of Grafana's grid
	line       = 27             // of the same
	gap        = 4              // around a panel
	heading    = 34             // of the page
	legendLine = 13
	maxLegend  = 7 // curves that are named, those with the highest values
)

// Series is one curve: values at times in seconds.
type Series struct {
	Name   string
	Times  []float64
	Values []float64 // NaN: nothing there
}

// Draw writes a PNG of the dashboard. fetch returns what a panel shows; of a
// dashboards.Stat the last value counts.
func Draw(w io.Writer, d *dashboards.Dashboard, fetch func(p *dashboards.Panel) []Series) error {
	tiles, lines := layout(d)
	height := heading + lines*line
	canvas := vgimg.NewWith(vgimg.UseWH(pageWidth, vg.Length(height)), vgimg.UseDPI(72), vgimg.UseBackgroundColor(paper))
	page := draw.New(canvas)
	write(page, d.Title, 16, true, ink, 8, vg.Length(height)-24)
	for _, t := range tiles {
		area := draw.Crop(page, vg.Length(t.x*column), vg.Length((t.x+t.w)*column-pageWidth), vg.Length((lines-t.y-t.h)*line), -vg.Length(heading+t.y*line))
		if t.panel == nil {
			write(area, t.title, 13, true, ink, 8, area.Min.Y+8)
			continue
		}
		area = draw.Crop(area, gap, -gap, gap, -gap)
		area.SetColor(color.White)
		area.Fill(area.Rectangle.Path())
		if err := t.draw(area, fetch(t.panel)); err != nil {
			return fmt.Errorf("draw %s: %w", t.title, err)
		}
	}
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	return encoder.Encode(w, fewColours(canvas.Image()))
}

var (
	paper = color.Gray{Y: 238}
	ink   = color.Gray{Y: 30}
	faint = color.Gray{Y: 110}
)

// tile is a panel, or a row's title, in its place of the grid.
type tile struct {
	x, y, w, h int
	title      string
	panel      *dashboards.Panel // nil: a title
}

func layout(d *dashboards.Dashboard) (tiles []tile, lines int) {
	y := 0
	for _, row := range d.Rows {
		tiles = append(tiles, tile{0, y, 24, 1, row.Title, nil})
		y++
		x, tallest := 0, 0
		for i := range row.Panels {
			p := &row.Panels[i]
			w, h := p.Size()
			if x+w > 24 {
				x, y, tallest = 0, y+tallest, 0
			}
			tiles = append(tiles, tile{x, y, w, h, p.Title, p})
			x, tallest = x+w, max(tallest, h)
		}
		y += tallest
	}
	return tiles, y
}

func (t *tile) draw(area draw.Canvas, found []Series) error {
	write(area, t.title, 10, true, ink, area.Min.X+6, area.Max.Y-14)
	if t.panel.Kind == dashboards.Stat {
		t.number(area, found)
		return nil
	}
	// The highest first: they are what a reader asks about.
	slices.SortStableFunc(found, func(a, b Series) int { return cmp.Compare(highest(b), highest(a)) })
	legend := found[:min(maxLegend, len(found))]
	perLine := max(1, int(area.Max.X-area.Min.X)/150)
	if slices.ContainsFunc(legend, func(s Series) bool { return len(s.Name) > 26 }) {
		perLine, legend = 1, legend[:min(4, len(legend))]
	}
	legendHeight := (len(legend)+perLine-1)/perLine*legendLine + 4
	if err := t.curves(draw.Crop(area, 2, -8, vg.Length(legendHeight), -20), found); err != nil {
		return err
	}
	for i, s := range legend {
		x := area.Min.X + 8 + vg.Length(i%perLine)*(area.Max.X-area.Min.X-8)/vg.Length(perLine)
		y := area.Min.Y + vg.Length(legendHeight-legendLine*(i/perLine+1)) + 1
		area.SetColor(plotutil.Color(i))
		area.Fill(vg.Rectangle{Min: vg.Point{X: x, Y: y + 2}, Max: vg.Point{X: x + 9, Y: y + 5}}.Path())
		write(area, s.Name, 8, false, faint, x+13, y)
	}
	return nil
}

// number draws a Stat.
func (t *tile) number(area draw.Canvas, found []Series) {
	value := math.NaN()
	if len(found) > 0 {
		for _, v := range found[0].Values {
			if !math.IsNaN(v) {
				value = v
			}
		}
	}
	write(area, format(t.panel.Unit, value), 26, true, t.colour(value), area.Min.X+8, area.Min.Y+(area.Max.Y-area.Min.Y)/3)
}

func (t *tile) colour(value float64) color.Color {
	chosen := color.Color(color.RGBA{R: 40, G: 140, B: 70, A: 255})
	for _, threshold := range t.panel.Thresholds {
		if t.panel.LowIsBad && value < threshold.At || !t.panel.LowIsBad && value >= threshold.At {
			chosen = colourOf(threshold.Color)
		}
	}
	return chosen
}

func colourOf(name string) color.Color {
	if name == "red" {
		return color.RGBA{R: 200, G: 40, B: 40, A: 255}
	}
	return color.RGBA{R: 220, G: 120, B: 10, A: 255}
}

// curves draws the lines of a panel over time.
func (t *tile) curves(area draw.Canvas, found []Series) error {
	p := plot.New()
	p.BackgroundColor = color.White
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = color.Gray{Y: 190}, color.Gray{Y: 190}
		axis.Tick.Label.Font, axis.Tick.Label.Color = sans(8, false), faint
		axis.Padding = 0
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = nil, color.Gray{Y: 228}
	p.Add(grid)
	first, last := span(found)
	top := 0.0
	for i, s := range found {
		for _, part := range parts(s, first) {
			l, err := plotter.NewLine(part)
			if err != nil {
				return err
			}
			l.Color, l.Width = plotutil.Color(i), 1.3
			p.Add(l)
		}
		top = max(top, highest(s))
	}
	p.X.Min, p.X.Max = 0, max(last-first, 1)
	p.X.Tick.Marker = plot.TickerFunc(func(_, high float64) []plot.Tick { return seconds(high) })
	if !t.panel.Signed {
		p.Y.Min = 0
	}
	p.Y.Max = t.highest(top, p.Y.Max)
	p.Y.Tick.Marker = plot.TickerFunc(func(low, high float64) []plot.Tick { return t.ticks(low, high) })
	for _, threshold := range t.panel.Thresholds {
		if threshold.At < p.Y.Max && threshold.At > 0 {
			dashed, err := plotter.NewLine(plotter.XYs{{X: 0, Y: threshold.At}, {X: p.X.Max, Y: threshold.At}})
			if err != nil {
				return err
			}
			dashed.Color, dashed.Width, dashed.Dashes = colourOf(threshold.Color), 0.8, []vg.Length{4, 3}
			p.Add(dashed)
		}
	}
	p.Draw(area)
	return nil
}

// highest returns where the vertical axis ends, for curves that reach top.
func (t *tile) highest(top, automatic float64) float64 {
	switch limits := t.panel.Thresholds; {
	case t.panel.Signed:
		return automatic
	case top > 0:
		return top * 1.1
	case len(limits) > 0 && !t.panel.LowIsBad:
		return limits[len(limits)-1].At * 1.1 // how far from trouble it is
	default:
		return 1
	}
}

// ticks labels five values of the vertical axis.
func (t *tile) ticks(low, high float64) []plot.Tick {
	step := niceStep((high - low) / 4)
	if t.panel.Unit == dashboards.Bytes || t.panel.Unit == dashboards.BytesPerSec {
		step = math.Exp2(math.Ceil(math.Log2((high - low) / 5)))
	}
	var ticks []plot.Tick
	for v := math.Ceil(low/step) * step; v <= high+step/1e6; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: format(t.panel.Unit, v)})
	}
	return ticks
}

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(raw float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, digit := range []float64{1, 2, 5} {
		if raw <= digit*power {
			return digit * power
		}
	}
	return 10 * power
}

// seconds labels the horizontal axis.
func seconds(high float64) []plot.Tick {
	var ticks []plot.Tick
	step := niceStep(high / 5)
	for v := 0.0; v <= high; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g s", v)})
	}
	return ticks
}

func span(found []Series) (first, last float64) {
	first = math.Inf(1)
	for _, s := range found {
		if len(s.Times) > 0 {
			first, last = min(first, s.Times[0]), max(last, s.Times[len(s.Times)-1])
		}
	}
	return first, last
}

// parts cuts a curve where nothing is there.
func parts(s Series, first float64) []plotter.XYs {
	var all []plotter.XYs
	var part plotter.XYs
	for i, v := range s.Values {
		gone := i > 0 && s.Times[i]-s.Times[i-1] > 5
		if (math.IsNaN(v) || math.IsInf(v, 0) || gone) && len(part) > 0 {
			all, part = append(all, part), nil
		}
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			part = append(part, plotter.XY{X: s.Times[i] - first, Y: v})
		}
	}
	if len(part) > 0 {
		all = append(all, part)
	}
	return all
}

func highest(s Series) float64 {
	top := 0.0
	for _, v := range s.Values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			top = max(top, v)
		}
	}
	return top
}

// format writes a value with its unit, in three digits.
func format(unit dashboards.Unit, v float64) string {
	scaled := func(v, base float64, suffixes ...string) string {
		i := 0
		for math.Abs(v) >= base && i < len(suffixes)-1 {
			v, i = v/base, i+1
		}
		return strings.TrimSpace(digits(v) + " " + suffixes[i])
	}
	switch {
	case math.IsNaN(v):
		return "no data"
	case unit == dashboards.Ratio:
		return digits(100*v) + " %"
	case unit == dashboards.Seconds && math.Abs(v) < 1:
		return scaled(v*1e6, 1000, "µs", "ms", "s")
	case unit == dashboards.Seconds:
		return digits(v) + " s"
	case unit == dashboards.Bytes:
		return scaled(v, 1024, "B", "KiB", "MiB", "GiB")
	case unit == dashboards.BytesPerSec:
		return scaled(v, 1024, "B/s", "KiB/s", "MiB/s", "GiB/s")
	case unit == dashboards.Count:
		return scaled(v, 1000, "", "k", "M")
	default:
		return scaled(v, 1000, "/s", "k/s", "M/s")
	}
}

func digits(v float64) string {
	if v == 0 {
		return "0"
	}
	precision := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	s := fmt.Sprintf("%.*f", min(precision, 4), v)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// write puts a text at a place of the page.
func write(c draw.Canvas, s string, size vg.Length, bold bool, ink color.Color, x, y vg.Length) {
	style := draw.TextStyle{Color: ink, Font: sans(size, bold), Handler: text.Plain{Fonts: font.DefaultCache}, YAlign: draw.YBottom}
	c.FillText(style, vg.Point{X: x, Y: y}, s)
}

func sans(size vg.Length, bold bool) font.Font {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	if bold {
		f.Weight = 3 // as golang.org/x/image/font counts
	}
	return f
}
