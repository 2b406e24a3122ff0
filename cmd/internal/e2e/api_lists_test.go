package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/core"
)

// page is one page of a list of endpoints.
type page struct {
	Data       []endpoint `json:"data"`
	NextCursor *string    `json:"next_cursor"`
}

// ids returns the ids of a page's endpoints.
func (p *page) ids() []string {
	ids := make([]string, len(p.Data))
	for i := range p.Data {
		ids[i] = p.Data[i].ID
	}
	return ids
}

func (c *client) page(query string) *page {
	c.s.t.Helper()
	p := new(page)
	c.do(http.StatusOK, "GET", "/api/v1/webhooks"+query, "").decode(c.s.t, p)
	return p
}

// TestListEndpoints covers the order, the pages and the limit of an
// organization's endpoints.
func TestListEndpoints(t *testing.T) {
	t.Parallel()
	const limit = 9
	s := newAPI(t, map[string]string{"SEALPOST_MAX_ENDPOINTS": fmt.Sprint(limit)})
	acme := s.client("acme", "admin")
	subscribe := func(i int) string {
		t.Helper()
		return acme.subscribe(fmt.Sprintf("https://crm.example.com/%d", i), "call.qualified").ID
	}
	var made []string
	for i := range 7 {
		made = append(made, subscribe(i))
	}
	order := acme.newestFirst()
	if got := slices.Sorted(slices.Values(order)); !slices.Equal(got, slices.Sorted(slices.Values(made))) {
		t.Fatalf("the list holds %v, want %v", got, made)
	}

	first := acme.page("?limit=3")
	if !slices.Equal(first.ids(), order[:3]) || first.NextCursor == nil {
		t.Fatalf("the first page holds %v and cursor %v, want %v and a cursor", first.ids(), first.NextCursor, order[:3])
	}
	// What comes and goes in front of a cursor does not move what stands behind.
	newcomer := subscribe(7)
	acme.do(http.StatusOK, "DELETE", "/api/v1/webhooks/"+order[1], "")
	second := acme.page("?limit=3&cursor=" + url.QueryEscape(*first.NextCursor))
	if !slices.Equal(second.ids(), order[3:6]) || second.NextCursor == nil {
		t.Fatalf("the second page holds %v, want %v and a cursor", second.ids(), order[3:6])
	}
	// Nor does the endpoint itself have to be there any more.
	acme.do(http.StatusOK, "DELETE", "/api/v1/webhooks/"+order[5], "")
	last := acme.page("?limit=3&cursor=" + url.QueryEscape(*second.NextCursor))
	if !slices.Equal(last.ids(), order[6:]) || last.NextCursor != nil {
		t.Fatalf("the last page holds %v and cursor %v, want %v and null", last.ids(), last.NextCursor, order[6:])
	}
	raw := acme.do(http.StatusOK, "GET", "/api/v1/webhooks?limit=250", "").body
	if got := shape(t, raw); !strings.HasSuffix(got, " next_cursor:null}") {
		t.Errorf("a page that is also the last has the shape %s, want next_cursor:null beside data", got)
	}
	if now := acme.newestFirst(); len(now) != 6 || !slices.Contains(now, newcomer) {
		t.Errorf("the list holds %v, want six with the newcomer %s", now, newcomer)
	}

	for i := range limit - 6 {
		subscribe(10 + i)
	}
	before := contents(t, s.redis.Client(t))
	refused := acme.do(http.StatusConflict, "POST", "/api/v1/webhooks", `{"url":"https://crm.example.com/more","events":["call.qualified"]}`)
	if p := refused.problem(t, http.StatusConflict, "conflict"); !strings.Contains(p.Detail, fmt.Sprint(limit)) {
		t.Errorf("the detail does not name the limit: %s", p.Detail)
	}
	unchanged(t, before, s.redis.Client(t))
	s.client("other", "admin").subscribe("https://crm.example.com/", "call.qualified") // each organization has its own
	acme.do(http.StatusOK, "DELETE", "/api/v1/webhooks/"+newcomer, "")
	subscribe(20)
}

// newestFirst returns the ids of all endpoints after checking their order. Ties
// of one millisecond may stand either way.
func (c *client) newestFirst() []string {
	c.s.t.Helper()
	var list struct {
		Data []struct {
			ID        string
			CreatedAt string `json:"created_at"`
		}
	}
	c.do(http.StatusOK, "GET", "/api/v1/webhooks", "").decode(c.s.t, &list)
	var ids []string
	for i, e := range list.Data {
		if i > 0 && e.CreatedAt > list.Data[i-1].CreatedAt {
			c.s.t.Errorf("the endpoint of %s stands behind that of %s", e.CreatedAt, list.Data[i-1].CreatedAt)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// rows is one page of an endpoint's log.
type rows struct {
	Data       []delivery `json:"data"`
	NextCursor *string    `json:"next_cursor"`
}

func (c *client) rows(endpoint, query string) *rows {
	c.s.t.Helper()
	r := new(rows)
	c.do(http.StatusOK, "GET", "/api/v1/webhooks/"+endpoint+"/deliveries"+query, "").decode(c.s.t, r)
	return r
}

// TestListDeliveries covers the order, the pages and the filter of a log.
func TestListDeliveries(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "2"})
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, func(_ int, got *received, w http.ResponseWriter) {
		if strings.Contains(string(got.body), "bad") {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	e := acme.subscribe(r.url(), "call.qualified")
	publish := func(data string, rowsAfter int) string {
		t.Helper()
		id := acme.publish(1, "call.qualified", data)
		s.eventually("the attempt is recorded", func() bool { return len(acme.deliveries(e.ID)) >= rowsAfter })
		return id
	}
	for i := range 5 {
		publish(`"good"`, i+1)
	}
	bad := publish(`"bad"`, 6)
	s.eventually("the second attempt is recorded", func() bool { return len(acme.deliveries(e.ID)) == 7 })

	all := acme.rows(e.ID, "")
	if all.NextCursor != nil || all.Data[0].EventID != bad || all.Data[0].Status != "failed" || all.Data[1].Status != "retrying" {
		t.Fatalf("the newest rows are %s", encoded(t, all.Data[:2]))
	}
	for i, d := range all.Data {
		switch d.Status {
		case "delivered":
			if *d.ResponseStatus != 200 || d.DeliveredAt == nil || d.Error != nil || d.NextAttemptAt != nil || d.Attempt != 1 {
				t.Errorf("row %d: %s", i, encoded(t, d))
			}
		case "retrying":
			if *d.ResponseStatus != 502 || d.DeliveredAt != nil || d.Error == nil || *d.Error != "status_5xx" || d.NextAttemptAt == nil || d.Attempt != 1 {
				t.Errorf("row %d: %s", i, encoded(t, d))
			}
		case "failed":
			if *d.ResponseStatus != 502 || d.DeliveredAt != nil || d.Error == nil || *d.Error != "status_5xx" || d.NextAttemptAt != nil || d.Attempt != 2 || d.ID != all.Data[i+1].ID {
				t.Errorf("row %d: %s", i, encoded(t, d))
			}
		default:
			t.Errorf("row %d: %s", i, encoded(t, d))
		}
	}

	first := acme.rows(e.ID, "?limit=3")
	if encoded(t, first.Data) != encoded(t, all.Data[:3]) || first.NextCursor == nil {
		t.Fatalf("the first page is %s", encoded(t, first))
	}
	publish(`"good"`, 8) // a row that comes in front does not move what stands behind the cursor
	var rest []delivery
	for cursor := first.NextCursor; cursor != nil; {
		next := acme.rows(e.ID, "?limit=3&cursor="+url.QueryEscape(*cursor))
		rest, cursor = append(rest, next.Data...), next.NextCursor
		if len(rest) > 7 {
			t.Fatal("the pages do not end")
		}
	}
	if encoded(t, rest) != encoded(t, all.Data[3:]) {
		t.Errorf("the further pages hold %s,\nwant %s", encoded(t, rest), encoded(t, all.Data[3:]))
	}

	for status, want := range map[string]int{"delivered": 6, "retrying": 1, "failed": 1, "discarded": 0} {
		got := acme.rows(e.ID, "?status="+status)
		if len(got.Data) != want {
			t.Errorf("status=%s gives %d rows, want %d", status, len(got.Data), want)
		}
		for _, d := range got.Data {
			if d.Status != status {
				t.Errorf("status=%s gives %s", status, encoded(t, d))
			}
		}
	}
	filtered := acme.rows(e.ID, "?status=delivered&limit=4")
	if filtered.NextCursor == nil {
		t.Fatal("four of six rows, and no cursor")
	}
	filtered = acme.rows(e.ID, "?status=delivered&limit=4&cursor="+url.QueryEscape(*filtered.NextCursor))
	if len(filtered.Data) != 2 || filtered.NextCursor != nil {
		t.Errorf("the second filtered page is %s, want two rows and no cursor", encoded(t, filtered))
	}
}

// TestEventTypes lists the catalogue, the default one and one's own.
func TestEventTypes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		setting string
		want    []string
	}{
		"default": {want: core.DefaultEventTypes()},
		"own":     {setting: "invoice.paid, invoice.voided", want: []string{"invoice.paid", "invoice.voided"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := map[string]string{}
			if tt.setting != "" {
				settings["SEALPOST_EVENT_TYPES"] = tt.setting
			}
			s := newAPI(t, settings)
			got := s.client("acme", "read").do(http.StatusOK, "GET", "/api/v1/event-types", "")
			var list struct{ Data []string }
			got.decode(t, &list)
			all := slices.Concat(tt.want, []string{"sealpost.endpoint.disabled", "sealpost.endpoint.enabled", "sealpost.endpoint.failing"})
			if !slices.Equal(list.Data, all) {
				t.Errorf("event types %v, want %v", list.Data, all)
			}
			acme := s.client("acme", "admin,publish")
			acme.subscribe("https://crm.example.com/", all...)
			acme.publish(1, tt.want[0], `null`)
			if tt.setting != "" {
				acme.do(http.StatusUnprocessableEntity, "POST", "/api/v1/events", `{"type":"call.qualified","data":1}`).problem(t, http.StatusUnprocessableEntity, "invalid")
			}
		})
	}
}
