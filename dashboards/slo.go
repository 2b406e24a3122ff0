package dashboards

import (
	"fmt"
	"strings"
)

// objective is a promise, and how recording rules keep track of it.
type objective struct {
	name, title, promise string
	target               float64
	bad, all             string // what is counted as an error, and of what; `[w]` stands for the window
	alert                string
	breach               string // what it means when the alert fires
}

func objectives() []objective {
	const (
		requests = `sealpost_gateway_requests_total{route=~"POST /api/v1/events.*"`
		duration = `sealpost_gateway_request_duration_seconds`
		ended    = `sealpost_sender_deliveries_total{status=~`
		lag      = `sealpost_sender_schedule_lag_seconds`
	)
	return []objective{
		{
			name: "accept", title: "Accept availability", promise: "99.9 % of publishing requests are not answered 5xx", target: 0.999,
			bad: `sum(rate(` + requests + `,code=~"5.."}[w]))`, all: `sum(rate(` + requests + `}[w]))`,
			alert: "SealpostAcceptErrorsBurn", breach: "of publishing requests are answered 5xx",
		},
		{
			name: "accept_latency", title: "Accept latency", promise: "99 % of publishing requests are answered within 100 ms", target: 0.99,
			bad: `(sum(rate(` + duration + `_count{route=~"POST /api/v1/events.*"}[w])) - sum(rate(` + duration + `_bucket{route=~"POST /api/v1/events.*",le="0.1"}[w])))`,
			all: `sum(rate(` + duration + `_count{route=~"POST /api/v1/events.*"}[w]))`, alert: "SealpostAcceptLatencyBurn", breach: "of publishing requests take longer than 100 ms",
		},
		{
			name: "delivery", title: "Delivery success", promise: "99 % of deliveries that end are delivered, not given up", target: 0.99,
			bad: `sum(rate(` + ended + `"failed"}[w]))`, all: `sum(rate(` + ended + `"delivered|failed"}[w]))`,
			alert: "SealpostDeliverySuccessBurn", breach: "of deliveries are given up",
		},
		{
			name: "promptness", title: "Promptness", promise: "99 % of first attempts begin within a second after their event was accepted", target: 0.99,
			bad: `(sum(rate(` + lag + `_count{attempt="first"}[w])) - sum(rate(` + lag + `_bucket{attempt="first",le=~"1|1.0"}[w])))`,
			all: `sum(rate(` + lag + `_count{attempt="first"}[w]))`, alert: "SealpostPromptnessBurn", breach: "of first attempts begin later than a second after their event was accepted",
		},
	}
}

// budget returns the share of errors that the objective permits.
func (o *objective) budget() float64 { return 1 - o.target }

// ratio returns the name of the recorded share of errors over a window.
func (o *objective) ratio(window string) string {
	return fmt.Sprintf("sealpost:%s_errors:ratio_rate%s", o.name, window)
}

// burn is a pair of windows over both of which errors have to come so many times
// faster than permitted: the long one tells that it matters, the short one that
// it goes on. From Google's SRE workbook, chapter 5.
type burn struct {
	rate        float64
	long, short string
}

// The burn rates that page at once, and those that make a ticket.
func fast() []burn { return []burn{{14.4, "1h", "5m"}, {6, "6h", "30m"}} }
func slow() []burn { return []burn{{3, "1d", "2h"}, {1, "3d", "6h"}} }

// windows lists every window that is recorded.
func windows() []string { return []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"} }

const rulesHead = `# Made from dashboards/slo.go: go test ./dashboards -run UpToDate -update
groups:
  - name: sealpost-slo
    interval: 30s
    rules:
`

// Rules returns the recording rules of the objectives, and the alerts on them.
func Rules() string {
	var b strings.Builder
	b.WriteString(rulesHead)
	for _, o := range objectives() {
		for _, w := range windows() {
			fmt.Fprintf(&b, "      - record: %s\n        expr: >-\n          %s\n          / clamp_min(%s, 1e-9)\n",
				o.ratio(w), strings.ReplaceAll(o.bad, "[w]", "["+w+"]"), strings.ReplaceAll(o.all, "[w]", "["+w+"]"))
		}
	}
	b.WriteString("\n  - name: sealpost-slo-alerts\n    rules:\n")
	for _, o := range objectives() {
		o.writeAlert(&b, o.alert+"Fast", "page", "2m", fast())
		o.writeAlert(&b, o.alert+"Slow", "ticket", "15m", slow())
	}
	return b.String()
}

func (o *objective) writeAlert(b *strings.Builder, name, severity, lasting string, burns []burn) {
	var conditions []string
	for _, burn := range burns {
		limit := fmt.Sprintf("%g * %.3f", burn.rate, o.budget())
		conditions = append(conditions, fmt.Sprintf("(%s > %s and %s > %s)", o.ratio(burn.long), limit, o.ratio(burn.short), limit))
	}
	fmt.Fprintf(b, `      - alert: %s
        expr: >-
          %s
        for: %s
        labels:
          severity: %s
        annotations:
          summary: "%s: the error budget burns %g times too fast or faster"
          description: "{{ $value | humanizePercentage }} %s (%s)."
          runbook_url: %s%s
`, name, strings.Join(conditions, "\n          or "), lasting, severity, o.title, burns[len(burns)-1].rate, o.breach, burns[0].long+" or "+burns[1].long, runbook, strings.ToLower(name))
}

// runbook is where the paragraph of each alert stands.
const runbook = "https://github.com/sealpost/sealpost/blob/main/docs/OPERATIONS.md#"

func slo() Dashboard {
	d := Dashboard{
		UID: "sealpost-slo", Title: "Sealpost / SLO",
		Description: "The objectives, how fast their error budgets burn, and which alerts fire. Needs the rules of dashboards/rules.",
		Rows: []Row{{Title: "At a glance", Panels: []Panel{
			stat("Alerts that fire", Count, "Alerts of Sealpost that fire now; docs/OPERATIONS.md says what to do about each.", `count(ALERTS{alertname=~"Sealpost.*",alertstate="firing"}) or vector(0)`).above(1, 1),
		}}},
	}
	for _, o := range objectives() {
		budget := fmt.Sprintf(" / %.3f", o.budget())
		d.Rows[0].Panels = append(d.Rows[0].Panels,
			stat(o.title+", 3 days", Ratio, fmt.Sprintf("Over the last three days. Objective: %s.", o.promise), "1 - "+o.ratio("3d")).below(o.target, o.target-2*o.budget()))
		d.Rows = append(d.Rows, Row{Title: o.title, Panels: []Panel{
			stat(o.title+": budget left", Ratio, fmt.Sprintf("What is left of the errors that the objective permits, over three days. Objective: %s.", o.promise),
				"1 - "+o.ratio("3d")+budget).below(0.5, 0),
			wide(lines(o.title+": burn rate", Count, "How many times faster than permitted errors come. A page fires at 14.4 (both an hour and five minutes) or 6 (six hours and half an hour), a ticket at 3 (a day and two hours) or 1 (three days and six hours).",
				Query{o.ratio("5m") + budget, "5 min"}, Query{o.ratio("1h") + budget, "1 h"},
				Query{o.ratio("6h") + budget, "6 h"}, Query{o.ratio("3d") + budget, "3 d"}).above(1, 14.4), 10),
			wide(lines(o.title+": error ratio", Ratio, "Share of errors, over five minutes and an hour.",
				Query{o.ratio("5m"), "5 min"}, Query{o.ratio("1h"), "1 h"}).above(o.budget(), 14.4*o.budget()), 10),
		}})
	}
	return d
}

func wide(p Panel, width int) Panel {
	p.Width = width
	return p
}
