package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

func TestDeliveryRows(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{})
	at := time.Date(2026, 4, 27, 17, 42, 17, 859e6, time.UTC)
	f.store.attempts[e.ID] = []core.Attempt{
		{Delivery: "whd_2", Event: "evt_2", EventType: "call.qualified", Number: 2, Status: core.StatusDelivered, ResponseStatus: 200, StartedAt: at, Latency: 142*time.Millisecond + 900*time.Microsecond},
		{Delivery: "whd_2", Event: "evt_2", EventType: "call.qualified", Number: 1, Status: core.StatusRetrying, ResponseStatus: 500, Reason: core.ReasonStatus5xx, StartedAt: at.Add(-time.Minute), Latency: time.Second, NextAt: at},
		{Delivery: "whd_1", Event: "evt_1", EventType: "lead.created", Number: 12, Status: core.StatusFailed, Reason: core.ReasonTimeout, StartedAt: at.Add(-time.Hour), Latency: 15 * time.Second},
	}
	a := f.call("GET", "/api/v1/webhooks/"+e.ID+"/deliveries", "").want(200, "")
	want := `{"data":[` +
		`{"id":"whd_2","event":"call.qualified","status":"delivered","response_status":200,"latency_ms":142,"attempt":2,"delivered_at":"2026-04-27T17:42:18.001Z","event_id":"evt_2","error":null,"next_attempt_at":null},` +
		`{"id":"whd_2","event":"call.qualified","status":"retrying","response_status":500,"latency_ms":1000,"attempt":1,"delivered_at":null,"event_id":"evt_2","error":"status_5xx","next_attempt_at":"2026-04-27T17:42:17.859Z"},` +
		`{"id":"whd_1","event":"lead.created","status":"failed","response_status":null,"latency_ms":15000,"attempt":12,"delivered_at":null,"event_id":"evt_1","error":"timeout","next_attempt_at":null}` +
		`],"next_cursor":null}`
	if a.body != want {
		t.Errorf(" got %s\nwant %s", a.body, want)
	}
	none := f.store.add(core.Endpoint{})
	if a := f.call("GET", "/api/v1/webhooks/"+none.ID+"/deliveries", "").want(200, ""); a.body != `{"data":[],"next_cursor":null}` {
		t.Errorf("no attempts: %s", a.body)
	}
}

func TestDeliveryPages(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{})
	row := func(i int) core.Attempt {
		status := core.StatusDelivered
		if i%3 == 0 {
			status = core.StatusFailed
		}
		return core.Attempt{Delivery: fmt.Sprintf("whd_%d", i/2), Number: i%2 + 1, Status: status}
	}
	for i := 99; i >= 0; i-- {
		f.store.attempts[e.ID] = append(f.store.attempts[e.ID], row(i))
		if r := row(i); r.Status == core.StatusFailed {
			f.store.failures[e.ID] = append(f.store.failures[e.ID], r)
		}
	}
	type page struct {
		Data []struct {
			ID      string
			Attempt int
			Status  core.Status
		}
		NextCursor *string `json:"next_cursor"`
	}
	walk := func(query string, between func()) (rows []string, pages int) {
		cursor := ""
		for {
			var p page
			f.call("GET", "/api/v1/webhooks/"+e.ID+"/deliveries?"+query+cursor, "").want(200, "").decode(&p)
			pages++
			for _, r := range p.Data {
				rows = append(rows, fmt.Sprint(r.ID, r.Attempt, r.Status))
			}
			if p.NextCursor == nil || pages > 100 {
				return rows, pages
			}
			cursor = "&cursor=" + *p.NextCursor
			between()
		}
	}
	rowsOf := func(keep func(core.Status) bool) (rows []string) {
		for i := 99; i >= 0; i-- {
			if r := row(i); keep(r.Status) {
				rows = append(rows, fmt.Sprint(r.Delivery, r.Number, r.Status))
			}
		}
		return rows
	}
	all := rowsOf(func(core.Status) bool { return true })
	failed := rowsOf(func(s core.Status) bool { return s == core.StatusFailed })
	delivered := rowsOf(func(s core.Status) bool { return s == core.StatusDelivered })
	nothing := func() {}
	for query, want := range map[string]struct {
		rows  []string
		pages int
	}{
		"": {all, 1}, "limit=100": {all, 1}, "limit=30": {all, 4}, "limit=50": {all, 2},
		"status=failed&limit=10": {failed, 4}, "status=delivered&limit=33": {delivered, 2}, "status=retrying": {nil, 1}, "status=discarded": {nil, 1},
	} {
		rows, pages := walk(query, nothing)
		if diff := cmp.Diff(want.rows, rows); diff != "" || pages != want.pages {
			t.Errorf("%q: %d pages, want %d (-want +got):\n%s", query, pages, want.pages, diff)
		}
	}
	// New attempts push old ones out: no row is seen twice, and what is gone
	// ends the list.
	rows, _ := walk("limit=30", func() {
		f.store.mu.Lock()
		defer f.store.mu.Unlock()
		old := f.store.attempts[e.ID]
		fresh := make([]core.Attempt, 5)
		for i := range fresh {
			fresh[i] = core.Attempt{Delivery: "whd_new", Number: 1000*len(old) + i}
		}
		f.store.attempts[e.ID] = append(fresh, old[:95]...)
	})
	if diff := cmp.Diff(all[:90], rows); diff != "" {
		t.Errorf("with new attempts (-want +got):\n%s", diff)
	}
	gone := *encodeCursor(attemptCursor, "7", "1|failed|whd_gone")
	if a := f.call("GET", "/api/v1/webhooks/"+e.ID+"/deliveries?cursor="+gone, "").want(200, ""); a.body != `{"data":[],"next_cursor":null}` {
		t.Errorf("after a row that is gone: %s", a.body)
	}
}

// Rows that share delivery and number, or everything, do not catch the pages in a
// loop, and none that differs is left out.
func TestDeliveryPagesEnd(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{})
	at := time.Date(2026, 4, 27, 17, 42, 17, 859e6, time.UTC)
	row := func(number int, status core.Status, ms int) core.Attempt {
		return core.Attempt{Delivery: "whd_1", Number: number, Status: status, StartedAt: at.Add(time.Duration(ms) * time.Millisecond)}
	}
	twice := row(1, core.StatusRetrying, 5)
	f.store.attempts[e.ID] = []core.Attempt{
		row(2, core.StatusFailed, 50),   // disabled: no attempt of its own
		row(2, core.StatusRetrying, 40), // a second run of the same attempt
		row(2, core.StatusRetrying, 30),
		row(2, core.StatusFailed, 30),
		twice, twice,
		row(1, core.StatusRetrying, 0),
	}
	var want []string
	for i, a := range f.store.attempts[e.ID] {
		if i != 5 {
			want = append(want, fmt.Sprint(a.Number, a.Status))
		}
	}
	var got []string
	cursor := ""
	for range 2 * len(want) {
		var p struct {
			Data []struct {
				Attempt int
				Status  core.Status
			}
			NextCursor *string `json:"next_cursor"`
		}
		f.call("GET", "/api/v1/webhooks/"+e.ID+"/deliveries?limit=1"+cursor, "").want(200, "").decode(&p)
		for _, r := range p.Data {
			got = append(got, fmt.Sprint(r.Attempt, r.Status))
		}
		if p.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *p.NextCursor
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}
