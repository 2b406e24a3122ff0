package dashboards

import (
	"bytes"
	"encoding/json"
)

// What a dashboard is in Grafana's JSON. Field order is the order in the files,
// which are read in diffs.

type grafanaDashboard struct {
	UID           string            `json:"uid"`
	Title         string            `json:"title"`
	Description   string            `json:"description"`
	Tags          []string          `json:"tags"`
	SchemaVersion int               `json:"schemaVersion"`
	Version       int               `json:"version"`
	Editable      bool              `json:"editable"`
	Refresh       string            `json:"refresh"`
	Time          grafanaTime       `json:"time"`
	Timezone      string            `json:"timezone"`
	GraphTooltip  int               `json:"graphTooltip"` // 1: one crosshair over all panels
	Links         []grafanaLink     `json:"links"`
	Templating    grafanaTemplating `json:"templating"`
	Panels        []grafanaPanel    `json:"panels"`
}

type grafanaTime struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type grafanaLink struct {
	Title       string   `json:"title"`
	Type        string   `json:"type"`
	Tags        []string `json:"tags"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
}

type grafanaTemplating struct {
	List []grafanaVariable `json:"list"`
}

type grafanaVariable struct {
	Name       string         `json:"name"`
	Label      string         `json:"label"`
	Type       string         `json:"type"`
	Datasource *grafanaSource `json:"datasource,omitempty"`
	Query      any            `json:"query"`
	Refresh    int            `json:"refresh"`
	Multi      bool           `json:"multi"`
	IncludeAll bool           `json:"includeAll"`
	AllValue   string         `json:"allValue,omitempty"`
	Sort       int            `json:"sort"`
	Current    any            `json:"current"`
}

type grafanaVariableQuery struct {
	Query string `json:"query"`
	RefID string `json:"refId"`
}

type grafanaSource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type grafanaPanel struct {
	ID          int             `json:"id"`
	Type        string          `json:"type"`
	Title       string          `json:"title"`
	Description string          `json:"description,omitempty"`
	GridPos     grafanaGrid     `json:"gridPos"`
	Datasource  *grafanaSource  `json:"datasource,omitempty"`
	Targets     []grafanaTarget `json:"targets,omitempty"`
	FieldConfig *grafanaFields  `json:"fieldConfig,omitempty"`
	Options     any             `json:"options,omitempty"`
}

type grafanaGrid struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type grafanaTarget struct {
	RefID        string         `json:"refId"`
	Expr         string         `json:"expr"`
	LegendFormat string         `json:"legendFormat,omitempty"`
	Instant      bool           `json:"instant"`
	Range        bool           `json:"range"`
	Datasource   *grafanaSource `json:"datasource"`
}

type grafanaFields struct {
	Defaults  grafanaDefaults `json:"defaults"`
	Overrides []struct{}      `json:"overrides"`
}

type grafanaDefaults struct {
	Unit       Unit              `json:"unit"`
	Min        *float64          `json:"min,omitempty"`
	Color      grafanaColor      `json:"color"`
	Thresholds grafanaThresholds `json:"thresholds"`
	Custom     any               `json:"custom,omitempty"`
}

type grafanaColor struct {
	Mode string `json:"mode"`
}

type grafanaThresholds struct {
	Mode  string        `json:"mode"`
	Steps []grafanaStep `json:"steps"`
}

type grafanaStep struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"` // null: from the bottom
}

// source is the data source that the variable chooses.
func source() *grafanaSource { return &grafanaSource{Type: "prometheus", UID: "${datasource}"} }

// JSON returns the dashboard as Grafana reads it.
func (d *Dashboard) JSON() ([]byte, error) {
	g := grafanaDashboard{
		UID: d.UID, Title: d.Title, Description: d.Description, Tags: []string{"sealpost"},
		SchemaVersion: 38, Version: 1, Refresh: "30s", Time: grafanaTime{"now-1h", "now"}, Timezone: "browser", GraphTooltip: 1,
		Links: []grafanaLink{{Title: "Sealpost", Type: "dashboards", Tags: []string{"sealpost"}, IncludeVars: true, KeepTime: true}},
	}
	for _, v := range Variables() {
		g.Templating.List = append(g.Templating.List, v.grafana())
	}
	id, y := 0, 0
	for _, row := range d.Rows {
		id++
		g.Panels = append(g.Panels, grafanaPanel{ID: id, Type: "row", Title: row.Title, GridPos: grafanaGrid{H: 1, W: 24, Y: y}})
		y++
		x, tallest := 0, 0
		for _, p := range row.Panels {
			id++
			w, h := p.Size()
			if x+w > 24 {
				x, y, tallest = 0, y+tallest, 0
			}
			g.Panels = append(g.Panels, p.grafana(id, grafanaGrid{H: h, W: w, X: x, Y: y}))
			x, tallest = x+w, max(tallest, h)
		}
		y += tallest
	}
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false) // for readable queries
	encoder.SetIndent("", "  ")
	err := encoder.Encode(g)
	return buf.Bytes(), err
}

func (v *Variable) grafana() grafanaVariable {
	g := grafanaVariable{Name: v.Name, Label: v.Label, Refresh: 1, Current: struct{}{}} // the default one
	if v.Query == "" {
		g.Type, g.Query = "datasource", "prometheus"
		return g
	}
	g.Type, g.Datasource, g.Query = "query", source(), grafanaVariableQuery{Query: v.Query, RefID: v.Name}
	g.Refresh, g.Multi, g.IncludeAll, g.AllValue, g.Sort = 2, true, true, ".+", 1 // 2: whenever the time changes
	g.Current = map[string]any{"text": []string{"All"}, "value": []string{"$__all"}}
	return g
}

func (p *Panel) grafana(id int, grid grafanaGrid) grafanaPanel {
	g := grafanaPanel{ID: id, Type: string(p.Kind), Title: p.Title, Description: p.Description, GridPos: grid, Datasource: source()}
	for i, q := range p.Queries {
		g.Targets = append(g.Targets, grafanaTarget{
			RefID: string(rune('A' + i)), Expr: q.PromQL(), LegendFormat: q.Legend,
			Instant: p.Kind == Stat, Range: p.Kind != Stat, Datasource: source(),
		})
	}
	zero := 0.0
	defaults := grafanaDefaults{Unit: p.Unit, Thresholds: grafanaThresholds{Mode: "absolute", Steps: p.steps()}}
	if p.Kind == Stat {
		defaults.Color.Mode = "thresholds"
		g.Options = map[string]any{"colorMode": "value", "graphMode": "none", "reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}}}
	} else {
		defaults.Color.Mode = "palette-classic"
		defaults.Custom = map[string]any{"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "thresholdsStyle": map[string]any{"mode": p.thresholdStyle()}}
		g.Options = map[string]any{"legend": map[string]any{"displayMode": "list", "placement": "bottom"}, "tooltip": map[string]any{"mode": "multi", "sort": "desc"}}
		if !p.Signed {
			defaults.Min = &zero
		}
	}
	g.FieldConfig = &grafanaFields{Defaults: defaults, Overrides: []struct{}{}}
	return g
}

func (p *Panel) thresholdStyle() string {
	if len(p.Thresholds) == 0 {
		return "off"
	}
	return "dashed"
}

// steps returns the colours from the lowest values up.
func (p *Panel) steps() []grafanaStep {
	steps := []grafanaStep{{Color: "green"}}
	for _, t := range p.Thresholds {
		steps = append(steps, grafanaStep{Color: t.Color, Value: &t.At})
	}
	if !p.LowIsBad {
		return steps
	}
	// Below the last threshold it is the last colour, and so on up to green.
	n := len(p.Thresholds)
	turned := []grafanaStep{{Color: p.Thresholds[n-1].Color}}
	for i := n - 1; i > 0; i-- {
		turned = append(turned, grafanaStep{Color: p.Thresholds[i-1].Color, Value: &p.Thresholds[i].At})
	}
	return append(turned, grafanaStep{Color: "green", Value: &p.Thresholds[0].At})
}
