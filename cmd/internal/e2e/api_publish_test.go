package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// accepted is the answer to an event.
type accepted struct {
	ID         string `json:"id"`
	Deliveries int    `json:"deliveries"`
}

// post sends one event that is accepted.
func (c *client) post(body string, headers ...string) accepted {
	c.s.t.Helper()
	var a accepted
	r := c.do(http.StatusAccepted, "POST", "/api/v1/events", body, headers...)
	if got, want := shape(c.s.t, r.body), "{id:event deliveries:integer}"; got != want && got != strings.Replace(want, "event", "string", 1) {
		c.s.t.Errorf("the answer %s is not of the shape %s", r.body, want)
	}
	r.decode(c.s.t, &a)
	return a
}

// bodies returns what a receiver got, by webhook-id.
func bodies(requests []received) map[string][]string {
	all := make(map[string][]string)
	for i := range requests {
		all[requests[i].id()] = append(all[requests[i].id()], string(requests[i].body))
	}
	return all
}

// TestPublishedForms publishes events in every form that is allowed and
// compares, byte for byte, what arrives.
func TestPublishedForms(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	acme.subscribe(r.url(), "call.qualified")
	const stamp = "2026-02-14T09:11:00.000Z"
	want := make(map[string][]string)
	for name, data := range map[string]string{
		"null": `null`, "true": `true`, "false": `false`, "zero": `-0.0e+00`, "beyond": `1e400`, "empty": `""`, "array": `[ ]`,
		"deepest": nested(127), "largest": sized(256 << 10), "spaces": "{ \"a\" :\t[1 ,\n2] }", "twice": `{"a":1,"a":2}`, "escapes": `"\u00e9\/\ud83d\ude00\u0000é"`,
	} {
		a := acme.post(fmt.Sprintf(`{"id":%q,"type":"call.qualified","timestamp":%q,"data":%s}`, name, stamp, data))
		if a.ID != name || a.Deliveries != 1 {
			t.Errorf("%s is answered with %+v", name, a)
		}
		want[name] = []string{`{"type":"call.qualified","timestamp":"` + stamp + `","data":` + data + `}`}
	}
	for i, given := range []string{"2026-02-14T09:11:00Z", "2026-02-14T14:41:00.123456789+05:30", "1999-12-31T23:59:59-00:00", "2024-02-29T00:00:00.5Z"} {
		id := fmt.Sprintf("timestamp-%d", i)
		acme.post(fmt.Sprintf(` { "data" : 7 , "timestamp":%q,"id":%q,"type":"call.\u0071ualified" } `, given, id))
		want[id] = []string{`{"type":"call.qualified","timestamp":"` + given + `","data":7}`}
	}
	long := strings.Repeat("Aa0_-", 12) + "zzzz"
	acme.post(`{"id":"` + long + `","type":"call.qualified","timestamp":"` + stamp + `","data":8}`)
	want[long] = []string{`{"type":"call.qualified","timestamp":"` + stamp + `","data":8}`}

	own := acme.post(`{"type":"call.qualified","data":9}`)
	if !strings.HasPrefix(own.ID, "evt_") || strings.Contains(own.ID, ".") {
		t.Errorf("the id %q is not of the form evt_…", own.ID)
	}
	r.await(len(want) + 1)
	s.awaitIdle()
	got := bodies(r.all())
	frozen := got[own.ID]
	delete(got, own.ID)
	if len(frozen) != 1 || shape(t, []byte(frozen[0])) != "{type:string timestamp:time data:integer}" {
		t.Errorf("without id and timestamp it arrives as %q", frozen)
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if !slices.Equal(got[id], want[id]) {
			t.Errorf("%s arrives as\n%.200q, want\n%.200q", id, got[id], want[id])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d events arrive, want %d", len(got), len(want))
	}
}

// TestPayloadLimit sets another limit and looks at both sides of it.
func TestPayloadLimit(t *testing.T) {
	t.Parallel()
	const limit = 2000
	s := newAPI(t, map[string]string{"SEALPOST_MAX_PAYLOAD": fmt.Sprint(limit)})
	acme := s.client("acme", "publish")
	event := func(n int) string { return `{"type":"call.qualified","data":` + sized(n) + `}` }
	acme.post(event(limit))
	p := acme.do(http.StatusRequestEntityTooLarge, "POST", "/api/v1/events", event(limit+1)).problem(t, http.StatusRequestEntityTooLarge, "too_large")
	if !strings.Contains(p.Detail, "2000") {
		t.Errorf("the detail %q does not name the limit", p.Detail)
	}
	items := acme.batch(`[` + event(limit) + `,` + event(limit+1) + `]`)
	if items[0].Error != nil || items[1].Error == nil || items[1].Error.Code != "too_large" || !strings.Contains(items[1].Error.Detail, "2000") {
		t.Errorf("in a batch: %s", encoded(t, items))
	}
}

// item is the answer to one event of a batch.
type item struct {
	accepted
	Error *struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
		Errors []struct {
			Field string `json:"field"`
		} `json:"errors"`
	} `json:"error"`
}

// batch sends a batch that is accepted.
func (c *client) batch(body string, headers ...string) []item {
	c.s.t.Helper()
	var list struct {
		Data []json.RawMessage `json:"data"`
	}
	c.do(http.StatusAccepted, "POST", "/api/v1/events/batch", body, headers...).decode(c.s.t, &list)
	items := make([]item, len(list.Data))
	for i, raw := range list.Data {
		if err := json.Unmarshal(raw, &items[i]); err != nil {
			c.s.t.Fatalf("item %s: %v", raw, err)
		}
		if items[i].Error != nil && items[i].ID != "" || items[i].Error == nil && items[i].ID == "" {
			c.s.t.Errorf("item %d is neither an event nor an error: %s", i, raw)
		}
	}
	return items
}

// TestBatchItems mixes good and bad events, as an array and as lines: a bad one
// is answered in its place and spoils none of its neighbours.
func TestBatchItems(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	acme.subscribe(r.url(), "call.qualified")
	rows := []struct {
		event    string
		anywhere bool   // it is the same error within an array
		code     string // "": accepted
		field    string
		n        int // deliveries
	}{
		{event: `{"type":"call.qualified","data":0}`, n: 1, anywhere: true},
		{event: `{"type":"call.dropped","data":1}`, code: "invalid", field: "type", anywhere: true},
		{event: `{"type":"lead.created","data":2}`, n: 0, anywhere: true},
		{event: `{"type":"call.qualified"}`, code: "invalid", field: "data", anywhere: true},
		{event: `{"type":"call.qualified","data":4,"extra":1}`, code: "invalid", field: "extra", anywhere: true},
		{event: `{"type":"call.qualified","data":5,"data":5}`, code: "invalid", field: "data", anywhere: true},
		{event: `{"type":"call.qualified","data":6,"id":"a b"}`, code: "invalid", field: "id", anywhere: true},
		{event: `{"type":"call.qualified","data":7,"timestamp":"x"}`, code: "invalid", field: "timestamp", anywhere: true},
		{event: `17`, code: "invalid", anywhere: true},
		{event: `null`, code: "invalid", anywhere: true},
		{event: `[]`, code: "invalid", anywhere: true},
		{event: `{"type":"call.qualified","data":` + nested(128) + `}`, code: "invalid_json", anywhere: true},
		{event: `{"type":"call.qualified","data":` + nested(127) + `}`, n: 1, anywhere: true},
		{event: `{"type":"call.qualified","data":` + sized(256<<10+1) + `}`, code: "too_large", anywhere: true},
		{event: "{\"type\":\"call.qualified\",\"data\":\"\xff\"}", code: "invalid_json", anywhere: true},
		{event: `{"type":"call.qualified","data":`, code: "invalid_json"},
		{event: `{"type":"call.qualified","data":1} x`, code: "invalid_json"},
		{event: `nonsense`, code: "invalid_json"},
		{event: "\u00a0", code: "invalid_json"}, // no white space in JSON, so not a blank line either
		{event: `{"type":"call.qualified","data":18}`, n: 1, anywhere: true},
	}
	check := func(form string, items []item, only func(i int) bool) {
		t.Helper()
		at := 0
		for i, row := range rows {
			if !only(i) {
				continue
			}
			if at >= len(items) {
				t.Fatalf("%s: only %d answers", form, len(items))
			}
			got := items[at]
			at++
			switch {
			case row.code == "":
				if got.Error != nil || got.Deliveries != row.n {
					t.Errorf("%s %.60q: %s, want %d deliveries", form, row.event, encoded(t, got), row.n)
				}
			case got.Error == nil || got.Error.Code != row.code || got.Error.Detail == "":
				t.Errorf("%s %.60q: %s, want the error %s", form, row.event, encoded(t, got), row.code)
			case row.field != "" && (len(got.Error.Errors) == 0 || got.Error.Errors[0].Field != row.field):
				t.Errorf("%s %.60q: %s, want an error about %s", form, row.event, encoded(t, got), row.field)
			case internals.MatchString(got.Error.Detail):
				t.Errorf("%s %.60q shows something internal: %s", form, row.event, got.Error.Detail)
			}
		}
		if at != len(items) {
			t.Errorf("%s: %d answers to %d events", form, len(items), at)
		}
	}
	var array, lines []string
	for _, row := range rows {
		lines = append(lines, row.event)
		if row.anywhere {
			array = append(array, row.event)
		}
	}
	check("array", acme.batch(" [ "+strings.Join(array, " ,\r\n")+" ] "), func(i int) bool { return rows[i].anywhere })
	ndjson := []string{"Content-Type", "application/x-ndjson"}
	all := func(int) bool { return true }
	check("lines", acme.batch(strings.Join(lines, "\n"), ndjson...), all)
	check("lines with blank ones", acme.batch("\n \r\n"+strings.Join(lines, "\r\n\r\n\t\n")+"\n\n", "Content-Type", "Application/X-NDJSON; charset=utf-8"), all)

	for form, got := range map[string][]item{
		"empty array": acme.batch(`[]`), "no lines": acme.batch("", ndjson...), "blank lines": acme.batch("\n\n", ndjson...),
	} {
		if len(got) != 0 {
			t.Errorf("%s is answered with %s", form, encoded(t, got))
		}
	}
	r.await(9)
	s.awaitIdle()
	if n := len(r.all()); n != 9 {
		t.Errorf("%d deliveries arrive, want three from each of three batches", n)
	}
}

// TestFullBatch sends as many events as a batch may hold.
func TestFullBatch(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	acme.subscribe(r.url(), "call.qualified")
	var events strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&events, `{"type":"call.qualified","id":"e-%d","data":{"n":%d}}`+"\n", i, i)
	}
	// Filled up with spaces to exactly 5 MiB.
	full := events.String() + strings.Repeat(" ", 5<<20-events.Len())
	for i, it := range acme.batch(full, "Content-Type", "application/x-ndjson") {
		if it.Error != nil || it.ID != fmt.Sprintf("e-%d", i) || it.Deliveries != 1 {
			t.Fatalf("event %d: %s", i, encoded(t, it))
		}
	}
	r.await(1000)
	s.awaitIdle()
	got := bodies(r.all())
	if len(got) != 1000 || len(r.all()) != 1000 {
		t.Errorf("%d events arrive in %d requests, want 1000 in 1000", len(got), len(r.all()))
	}
	for i := range 1000 {
		b := got[fmt.Sprintf("e-%d", i)]
		if len(b) != 1 || !strings.HasSuffix(b[0], fmt.Sprintf(`,"data":{"n":%d}}`, i)) {
			t.Fatalf("event %d arrives as %q", i, b)
		}
	}
}
