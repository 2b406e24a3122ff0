package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// Sizes of the picture, in pixels.
const (
	panelWidth, panelHeight                 = 560, 240
	marginLeft, marginRight, marginTop, low = 60, 20, 52, 34
)

// panel is one diagram.
type panel struct {
	title string
	lines []string // series
}

// draw writes the series over time as SVG.
func (r *soakReport) draw(out io.Writer) {
	both := func(of string) []string { return []string{of + elderGateway, of + elderSender} }
	panels := []panel{
		{"Resident memory, MiB", both(rssOf)},
		{"Heap in use after a collection, MiB", both(heapOf)},
		{"Goroutines", both(goroutinesOf)},
		{"Open files", both(filesOf)},
		{"Redis: keys that must not grow", []string{restKeys}},
		{"Redis: keys that live for a time", []string{idemKeys, doneKeys, statKeys}},
		{"Redis: memory used, MiB", []string{redisMemory}},
		{"Redis: connections", []string{redisClients}},
	}
	width, height := 2*panelWidth, (len(panels)+1)/2*panelHeight+40
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#333">`+"\n", width, height, width, height)
	fmt.Fprintf(out, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(out, `<text x="16" y="26" font-size="16">Soak at %.0f deliveries/s: samples in the quiet after each round of faults; gray: warm-up</text>`+"\n", r.Rate)
	for i, p := range panels {
		fmt.Fprintf(out, `<g transform="translate(%d %d)">`+"\n", i%2*panelWidth, 40+i/2*panelHeight)
		r.drawPanel(out, p)
		fmt.Fprintln(out, "</g>")
	}
	fmt.Fprintln(out, "</svg>")
}

func (r *soakReport) drawPanel(out io.Writer, p panel) {
	colours := []string{"#1f6feb", "#d1571f", "#2a8a4a"}
	fmt.Fprintf(out, `<text x="%d" y="20" font-size="14">%s</text>`+"\n", marginLeft, p.title)
	if len(r.Samples) == 0 {
		return
	}
	last, most := r.Samples[len(r.Samples)-1].At, 1.0
	for _, s := range r.Samples {
		for _, name := range p.lines {
			most = max(most, s.Values[name])
		}
	}
	step := niceStep(most / 4)
	most = math.Ceil(most/step) * step
	x := func(at float64) float64 {
		return marginLeft + at/last*(panelWidth-marginLeft-marginRight)
	}
	y := func(v float64) float64 {
		return panelHeight - low - v/most*(panelHeight-low-marginTop)
	}
	if warm := r.Samples[min(warmUp, len(r.Samples))-1].At; len(r.Samples) > warmUp {
		fmt.Fprintf(out, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="#f0f0f0"/>`+"\n", marginLeft, marginTop, x(warm)-marginLeft, panelHeight-low-marginTop)
	}
	for v := 0.0; v <= most+step/2; v += step {
		fmt.Fprintf(out, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			marginLeft, y(v), panelWidth-marginRight, marginLeft-6, y(v)+4, amount(v))
	}
	minutes := last / 60
	every := max(niceStep(minutes/6), 0.5)
	for m := 0.0; m <= minutes; m += every {
		fmt.Fprintf(out, `<text x="%.1f" y="%d" text-anchor="middle">%s min</text>`+"\n", x(m*60), panelHeight-low+18, amount(m))
	}
	left := marginLeft
	for i, name := range p.lines {
		var d strings.Builder
		for j, s := range r.Samples {
			fmt.Fprintf(&d, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[j == 0], x(s.At), y(s.Values[name]))
			fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(s.At), y(s.Values[name]), colours[i])
		}
		fmt.Fprintf(out, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", d.String(), colours[i])
		_, short, found := strings.Cut(name, " of ")
		if !found || len(p.lines) != 2 {
			short = name
		} else if at := strings.LastIndex(short, " of "); at >= 0 {
			short = short[at+4:]
		}
		fmt.Fprintf(out, `<rect x="%d" y="32" width="14" height="4" fill="%s"/><text x="%d" y="38">%s</text>`+"\n", left, colours[i], left+19, short)
		left += 32 + 6*len(short)
	}
}

// niceStep returns the least of 1, 2, 5, 10, 20, … times a power of ten that is not
// below v.
func niceStep(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*unit >= v {
			return f * unit
		}
	}
	return 10 * unit
}

// amount is v with as few digits as tell it.
func amount(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3gk", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
