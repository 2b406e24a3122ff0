// Package dashboards holds what operators look at: Grafana dashboards, written
// down here as Go tables and kept as JSON in grafana/, and Prometheus rules in
// rules/. The programs do not import it.
//
// The tests of this package compare the JSON with the tables and every name of a
// metric with docs/METRICS.md, and run promtool on the rules. cmd/internal/e2e
// executes every query of every dashboard, and every alert, on a real Prometheus
// that scrapes the real programs.
package dashboards
