package gateway

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// members returns the names of a JSON object's members in their order.
func members(t *testing.T, object string) []string {
	t.Helper()
	var s scanner
	s.reset([]byte(object))
	if s.peek() != '{' {
		t.Fatalf("not an object: %s", object)
	}
	s.enter()
	var names []string
	for first := true; ; first = false {
		name, _, more, ok := s.member(first, 0)
		if !ok {
			t.Fatalf("%s in %s", s.problem, object)
		}
		if !more {
			return names
		}
		names = append(names, string(unquote(s.raw(name))))
	}
}

const goodEndpoint = `{"url":"https://crm-bridge.example.com/webhook","events":["call.qualified","lead.created"],"description":"Production CRM bridge"}`

// The founding document's members, in its order.
var (
	shownMembers   = []string{"id", "url", "events", "description", "signing_secret_prefix", "enabled", "created_at", "last_delivery_at", "last_delivery_status", "state", "paused_until", "failing_since", "backlog"}
	createdMembers = []string{"id", "url", "events", "description", "signing_secret_prefix", "enabled", "created_at", "signing_secret", "_warning"}
	rotatedMembers = []string{"id", "url", "signing_secret_prefix", "signing_secret", "_warning"}
)

func TestEndpointLifecycle(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 14, 9, 11, 0, 123_456_789, time.FixedZone("", 3600))
	f := setup(t, func(o *Options) { o.Now = func() time.Time { return now } })

	created := f.call("POST", "/api/v1/webhooks", goodEndpoint).want(201, "")
	if diff := cmp.Diff(createdMembers, members(t, created.body)); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	var c createdJSON
	created.decode(&c)
	if !core.ValidEndpointID(c.ID) || created.Header.Get("Location") != "/api/v1/webhooks/"+c.ID || created.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("id %q, headers %v", c.ID, created.Header)
	}
	want := createdJSON{
		ID: c.ID, URL: "https://crm-bridge.example.com/webhook", Events: []string{"call.qualified", "lead.created"}, Description: "Production CRM bridge",
		SigningSecretPrefix: c.SigningSecret[:12], Enabled: true, CreatedAt: "2026-02-14T08:11:00.123Z", SigningSecret: c.SigningSecret,
		Warning: "Save this signing_secret now. It will not be shown again.",
	}
	if diff := cmp.Diff(want, c, cmp.AllowUnexported(createdJSON{})); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if !regexp.MustCompile(`^whsec_[A-Za-z0-9+/]{32}$`).MatchString(c.SigningSecret) {
		t.Errorf("secret %q", c.SigningSecret)
	}
	stored := f.store.endpoints[core.EndpointRef{Organization: "acme", ID: c.ID}]
	if stored.Revision != 1 || len(stored.Secrets) != 1 || stored.Secrets[0].Version != 1 || !stored.CreatedAt.Equal(now.Truncate(time.Millisecond)) {
		t.Errorf("stored %+v", stored)
	}

	item := "/api/v1/webhooks/" + c.ID
	got := f.call("GET", item, "").want(200, "")
	if diff := cmp.Diff(shownMembers, members(t, got.body)); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	if !strings.Contains(got.body, `"last_delivery_at":null,"last_delivery_status":null`) || strings.Contains(got.body, c.SigningSecret) {
		t.Errorf("shown %s", got.body)
	}
	f.store.attempts[c.ID] = []core.Attempt{{ResponseStatus: 200, StartedAt: now, Latency: 142 * time.Millisecond}}
	got = f.call("GET", item, "").want(200, "")
	if !strings.Contains(got.body, `"last_delivery_at":"2026-02-14T08:11:00.265Z","last_delivery_status":200`) {
		t.Errorf("shown %s", got.body)
	}
	list := f.call("GET", "/api/v1/webhooks", "").want(200, "")
	if list.body != `{"data":[`+got.body+`]}` {
		t.Errorf("list %s", list.body)
	}
	f.store.attempts[c.ID][0].ResponseStatus = 0
	if got = f.call("GET", item, ""); !strings.Contains(got.body, `.265Z","last_delivery_status":null`) {
		t.Errorf("an attempt without response: %s", got.body)
	}

	deleted := f.call("DELETE", item, "").want(200, "")
	if deleted.body != `{"id":"`+c.ID+`","deleted":true}` {
		t.Errorf("deleted %s", deleted.body)
	}
	if diff := cmp.Diff([]string{c.ID}, f.store.forgotten); diff != "" {
		t.Errorf("forgotten (-want +got):\n%s", diff)
	}
	f.call("DELETE", item, "").want(404, core.CodeNotFound)
	f.call("GET", item, "").want(404, core.CodeNotFound)
	if list := f.call("GET", "/api/v1/webhooks", "").want(200, ""); list.body != `{"data":[]}` {
		t.Errorf("list %s", list.body)
	}
}

func TestBadManagementBodies(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{URL: "https://old.example.com/", EventTypes: []string{"lead.created"}, Enabled: true})
	item := "/api/v1/webhooks/" + e.ID
	// with returns a good creation with one member replaced or added.
	with := func(member, value string) string {
		body := `{"` + member + `":` + value
		for m, v := range map[string]string{"url": `"https://a.example.com/"`, "events": `["lead.created"]`} {
			if m != member {
				body += `,"` + m + `":` + v
			}
		}
		return body + `}`
	}
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     core.Code
		fields                   []string
	}{
		{"empty body", "POST", "", ``, 400, core.CodeInvalidJSON, nil},
		{"broken", "POST", "", `{"url":`, 400, core.CodeInvalidJSON, nil},
		{"second document", "POST", "", goodEndpoint + `{}`, 400, core.CodeInvalidJSON, nil},
		{"not UTF-8", "POST", "", with("description", "\"\xff\""), 400, core.CodeInvalidJSON, nil},
		{"too deep", "POST", "", with("description", strings.Repeat("[", 128)+strings.Repeat("]", 128)), 400, core.CodeInvalidJSON, nil},
		{"array", "POST", "", `[]`, 422, core.CodeInvalid, nil},
		{"null", "POST", "", `null`, 422, core.CodeInvalid, nil},
		{"nothing given", "POST", "", `{}`, 422, core.CodeInvalid, []string{"url", "events"}},
		{"no events", "POST", "", `{"url":"https://a.example.com/"}`, 422, core.CodeInvalid, []string{"events"}},
		{"no url", "POST", "", `{"events":["lead.created"]}`, 422, core.CodeInvalid, []string{"url"}},
		{"unknown field", "POST", "", with("secret", `"x"`), 422, core.CodeInvalid, []string{"secret"}},
		{"enabled at creation", "POST", "", with("enabled", `true`), 422, core.CodeInvalid, []string{"enabled"}},
		{"field of a later version", "POST", "", with("headers", `{}`), 422, core.CodeInvalid, []string{"headers"}},
		{"repeated field", "POST", "", `{"url":"https://a.example.com/","url":"https://a.example.com/","events":["lead.created"]}`, 422, core.CodeInvalid, []string{"url"}},
		{"url is a number", "POST", "", with("url", `1`), 422, core.CodeInvalid, []string{"url"}},
		{"url is null", "POST", "", with("url", `null`), 422, core.CodeInvalid, []string{"url"}},
		{"empty url", "POST", "", with("url", `""`), 422, core.CodeInvalid, []string{"url"}},
		{"http", "POST", "", with("url", `"http://a.example.com/"`), 422, core.CodeInvalid, []string{"url"}},
		{"other scheme", "POST", "", with("url", `"ftp://a.example.com/"`), 422, core.CodeInvalid, []string{"url"}},
		{"no host", "POST", "", with("url", `"https:///x"`), 422, core.CodeInvalid, []string{"url"}},
		{"userinfo", "POST", "", with("url", `"https://u:p@a.example.com/"`), 422, core.CodeInvalid, []string{"url"}},
		{"fragment", "POST", "", with("url", `"https://a.example.com/#x"`), 422, core.CodeInvalid, []string{"url"}},
		{"port", "POST", "", with("url", `"https://a.example.com:70000/"`), 422, core.CodeInvalid, []string{"url"}},
		{"long url", "POST", "", with("url", `"https://a.example.com/`+strings.Repeat("x", 2048)+`"`), 422, core.CodeInvalid, []string{"url"}},
		{"loopback", "POST", "", with("url", `"https://127.0.0.1/"`), 422, core.CodeInvalid, []string{"url"}},
		{"loopback as a number", "POST", "", with("url", `"https://2130706433/"`), 422, core.CodeInvalid, []string{"url"}},
		{"loopback in octal", "POST", "", with("url", `"https://0177.0.0.1/"`), 422, core.CodeInvalid, []string{"url"}},
		{"mapped loopback", "POST", "", with("url", `"https://[::ffff:127.0.0.1]/"`), 422, core.CodeInvalid, []string{"url"}},
		{"private", "POST", "", with("url", `"https://192.168.1.1/"`), 422, core.CodeInvalid, []string{"url"}},
		{"metadata service", "POST", "", with("url", `"https://169.254.169.254/latest"`), 422, core.CodeInvalid, []string{"url"}},
		{"localhost", "POST", "", with("url", `"https://localhost/"`), 422, core.CodeInvalid, []string{"url"}},
		{"internal name", "POST", "", with("url", `"https://db.internal/"`), 422, core.CodeInvalid, []string{"url"}},
		{"events is a string", "POST", "", with("events", `"lead.created"`), 422, core.CodeInvalid, []string{"events"}},
		{"events is null", "POST", "", with("events", `null`), 422, core.CodeInvalid, []string{"events"}},
		{"events is empty", "POST", "", with("events", `[]`), 422, core.CodeInvalid, []string{"events"}},
		{"number among events", "POST", "", with("events", `["lead.created", 2]`), 422, core.CodeInvalid, []string{"events[1]"}},
		{"unknown event", "POST", "", with("events", `["lead.created","lead.eaten"]`), 422, core.CodeInvalid, []string{"events[1]"}},
		{"wildcard", "POST", "", with("events", `["*"]`), 422, core.CodeInvalid, []string{"events[0]"}},
		{"repeated event", "POST", "", with("events", `["lead.created","lead\u002ecreated"]`), 422, core.CodeInvalid, []string{"events[1]"}},
		{"description is a number", "POST", "", with("description", `1`), 422, core.CodeInvalid, []string{"description"}},
		{"long description", "POST", "", with("description", `"`+strings.Repeat("x", 1025)+`"`), 422, core.CodeInvalid, []string{"description"}},
		{"max_age is a number", "POST", "", with("max_age", `5`), 422, core.CodeInvalid, []string{"max_age"}},
		{"max_age of nothing", "POST", "", with("max_age", `"0s"`), 422, core.CodeInvalid, []string{"max_age"}},
		{"max_age too long", "POST", "", with("max_age", `"721h"`), 422, core.CodeInvalid, []string{"max_age"}},
		{"patch: max_age without unit", "PATCH", item, `{"max_age":"60"}`, 422, core.CodeInvalid, []string{"max_age"}},
		{"rate_limit is a string", "POST", "", with("rate_limit", `"5"`), 422, core.CodeInvalid, []string{"rate_limit"}},
		{"rate_limit of nothing", "POST", "", with("rate_limit", `0`), 422, core.CodeInvalid, []string{"rate_limit"}},
		{"rate_limit too low", "POST", "", with("rate_limit", `0.009`), 422, core.CodeInvalid, []string{"rate_limit"}},
		{"rate_limit too high", "POST", "", with("rate_limit", `10000.1`), 422, core.CodeInvalid, []string{"rate_limit"}},
		{"rate_limit beyond numbers", "POST", "", with("rate_limit", `1e999`), 422, core.CodeInvalid, []string{"rate_limit"}},
		{"rate_limit is an array", "POST", "", with("rate_limit", `[1]`), 422, core.CodeInvalid, []string{"rate_limit"}},
		{"max_in_flight of nothing", "POST", "", with("max_in_flight", `0`), 422, core.CodeInvalid, []string{"max_in_flight"}},
		{"max_in_flight too high", "POST", "", with("max_in_flight", `1001`), 422, core.CodeInvalid, []string{"max_in_flight"}},
		{"max_in_flight is no integer", "POST", "", with("max_in_flight", `1.5`), 422, core.CodeInvalid, []string{"max_in_flight"}},
		{"max_in_flight is true", "POST", "", with("max_in_flight", `true`), 422, core.CodeInvalid, []string{"max_in_flight"}},
		{"ordering is unknown", "POST", "", with("ordering", `"lifo"`), 422, core.CodeInvalid, []string{"ordering"}},
		{"ordering is false", "POST", "", with("ordering", `false`), 422, core.CodeInvalid, []string{"ordering"}},
		{"on_disable is unknown", "POST", "", with("on_disable", `"keep"`), 422, core.CodeInvalid, []string{"on_disable"}},
		{"fifo, several in flight", "POST", "", `{"url":"https://a.example.com/","events":["lead.created"],"ordering":"fifo","max_in_flight":2}`, 422, core.CodeInvalid, []string{"ordering"}},
		{"state", "POST", "", with("state", `"active"`), 422, core.CodeInvalid, []string{"state"}},
		{"patch: rate_limit", "PATCH", item, `{"rate_limit":-1}`, 422, core.CodeInvalid, []string{"rate_limit"}},
		{"patch: all limits", "PATCH", item, `{"rate_limit":{},"max_in_flight":"1","ordering":1,"on_disable":0}`, 422, core.CodeInvalid, []string{"rate_limit", "max_in_flight", "ordering", "on_disable"}},
		{"all at once", "POST", "", `{"url":"http://a","events":["x"],"description":false,"x":1}`, 422, core.CodeInvalid, []string{"x", "url", "events[0]", "description"}},
		{"above 64 KiB", "POST", "", with("description", `"`+strings.Repeat("x", 64<<10)+`"`), 413, core.CodeTooLarge, nil},
		{"5 MiB", "POST", "", strings.Repeat(" ", 5<<20), 413, core.CodeTooLarge, nil},

		{"patch: empty body", "PATCH", item, ``, 400, core.CodeInvalidJSON, nil},
		{"patch: broken", "PATCH", item, `{"enabled":fals}`, 400, core.CodeInvalidJSON, nil},
		{"patch: array", "PATCH", item, `[]`, 422, core.CodeInvalid, nil},
		{"patch: enabled is a string", "PATCH", item, `{"enabled":"false"}`, 422, core.CodeInvalid, []string{"enabled"}},
		{"patch: enabled is null", "PATCH", item, `{"enabled":null}`, 422, core.CodeInvalid, []string{"enabled"}},
		{"patch: unknown field", "PATCH", item, `{"id":"x"}`, 422, core.CodeInvalid, []string{"id"}},
		{"patch: field of a later version", "PATCH", item, `{"headers":{}}`, 422, core.CodeInvalid, []string{"headers"}},
		{"patch: http", "PATCH", item, `{"url":"http://a.example.com/"}`, 422, core.CodeInvalid, []string{"url"}},
		{"patch: no events", "PATCH", item, `{"events":[]}`, 422, core.CodeInvalid, []string{"events"}},
		{"patch: good and bad", "PATCH", item, `{"description":"new","enabled":1}`, 422, core.CodeInvalid, []string{"enabled"}},

		{"rotate: broken", "POST", item + "/rotate-secret", `{`, 400, core.CodeInvalidJSON, nil},
		{"rotate: array", "POST", item + "/rotate-secret", `[]`, 422, core.CodeInvalid, nil},
		{"rotate: unknown field", "POST", item + "/rotate-secret", `{"overlaps":"1h"}`, 422, core.CodeInvalid, []string{"overlaps"}},
		{"rotate: number", "POST", item + "/rotate-secret", `{"overlap":3600}`, 422, core.CodeInvalid, []string{"overlap"}},
		{"rotate: null", "POST", item + "/rotate-secret", `{"overlap":null}`, 422, core.CodeInvalid, []string{"overlap"}},
		{"rotate: no duration", "POST", item + "/rotate-secret", `{"overlap":"soon"}`, 422, core.CodeInvalid, []string{"overlap"}},
		{"rotate: no unit", "POST", item + "/rotate-secret", `{"overlap":"24"}`, 422, core.CodeInvalid, []string{"overlap"}},
		{"rotate: negative", "POST", item + "/rotate-secret", `{"overlap":"-1s"}`, 422, core.CodeInvalid, []string{"overlap"}},
		{"rotate: too long", "POST", item + "/rotate-secret", `{"overlap":"168h0m1s"}`, 422, core.CodeInvalid, []string{"overlap"}},
		{"rotate: overflow", "POST", item + "/rotate-secret", `{"overlap":"9999999999h"}`, 422, core.CodeInvalid, []string{"overlap"}},
	}
	for _, tt := range tests {
		path := tt.path
		if path == "" {
			path = "/api/v1/webhooks"
		}
		a := f.call(tt.method, path, tt.body)
		a.what = tt.name
		a.want(tt.status, tt.code, tt.fields...)
	}
	if diff := cmp.Diff(e, f.store.endpoints[e.Ref()]); diff != "" || len(f.store.endpoints) != 1 {
		t.Errorf("something changed (-want +got):\n%s", diff)
	}
}

// Queries of URLs often carry a token: only administrators see them.
func TestReadersDoNotSeeQueries(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{URL: "https://a.example.com/x?token=secret"})
	reader := f.store.addKey("acme", core.ScopeRead)
	for _, path := range []string{"/api/v1/webhooks", "/api/v1/webhooks/" + e.ID} {
		if a := f.call("GET", path, "", "Authorization", "Bearer "+reader).want(200, ""); !strings.Contains(a.body, `"url":"https://a.example.com/x"`) {
			t.Errorf("a reader sees %s", a.body)
		}
		if a := f.call("GET", path, "").want(200, ""); !strings.Contains(a.body, `"url":"https://a.example.com/x?token=secret"`) {
			t.Errorf("an administrator sees %s", a.body)
		}
	}
}

func TestMaxEndpoints(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.MaxEndpoints = 2 })
	for range 2 {
		f.call("POST", "/api/v1/webhooks", goodEndpoint).want(201, "")
	}
	f.call("POST", "/api/v1/webhooks", goodEndpoint).want(409, core.CodeConflict)
}

func TestStoreIsUnavailable(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{})
	f.store.err = core.Unavailable("storage did not confirm the operation", fmt.Errorf("dial tcp 10.1.2.3:6379: refused"))
	item := "/api/v1/webhooks/" + e.ID
	for _, r := range [][3]string{
		{"GET", "/api/v1/webhooks", ""}, {"POST", "/api/v1/webhooks", goodEndpoint}, {"GET", item, ""}, {"PATCH", item, `{"enabled":true}`},
		{"POST", item + "/rotate-secret", ""}, {"GET", item + "/deliveries", ""}, {"DELETE", item, ""},
	} {
		a := f.call(r[0], r[1], r[2]).want(503, core.CodeUnavailable)
		if a.Header.Get("Retry-After") != "1" || strings.Contains(a.body, "10.1") {
			t.Errorf("%s %s: Retry-After %q, body %s", r[0], r[1], a.Header.Get("Retry-After"), a.body)
		}
	}
	if !strings.Contains(f.logs.String(), "10.1.2.3") {
		t.Error("operators do not learn the cause")
	}
}

func TestEndpointPages(t *testing.T) {
	t.Parallel()
	f := setup(t)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 7 { // three of them in one millisecond
		f.store.add(core.Endpoint{CreatedAt: at.Add(time.Duration(max(i-2, 0)) * time.Millisecond)})
	}
	all, _, _ := f.store.Endpoints(t.Context(), "acme")
	type page struct {
		Data       []struct{ ID string }
		NextCursor *string `json:"next_cursor"`
	}
	walk := func(between func(page)) []string {
		var ids []string
		cursor := ""
		for range 10 {
			var p page
			f.call("GET", "/api/v1/webhooks?limit=2"+cursor, "").want(200, "").decode(&p)
			for _, e := range p.Data {
				ids = append(ids, e.ID)
			}
			if p.NextCursor == nil {
				return ids
			}
			if len(p.Data) != 2 {
				t.Fatalf("a page of %d", len(p.Data))
			}
			cursor = "&cursor=" + *p.NextCursor
			between(p)
		}
		t.Fatal("the pages do not end")
		return nil
	}
	var want []string
	for _, e := range all {
		want = append(want, e.ID)
	}
	if diff := cmp.Diff(want, walk(func(page) {})); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	// New ones do not shift the pages, and the cursor's own row may vanish.
	got := walk(func(p page) {
		f.store.add(core.Endpoint{CreatedAt: time.Now()})
		f.store.mu.Lock()
		delete(f.store.endpoints, core.EndpointRef{Organization: "acme", ID: p.Data[1].ID})
		f.store.mu.Unlock()
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages with changes (-want +got):\n%s", diff)
	}
	if a := f.call("GET", "/api/v1/webhooks?limit=250", "").want(200, ""); !strings.HasSuffix(a.body, `],"next_cursor":null}`) {
		t.Errorf("one page: %s", a.body)
	}
	if names := members(t, f.call("GET", "/api/v1/webhooks", "").body); len(names) != 1 {
		t.Errorf("without limit: members %q", names)
	}
	var first page
	f.call("GET", "/api/v1/webhooks?limit=1", "").decode(&first)
	a := f.call("GET", "/api/v1/webhooks?cursor="+*first.NextCursor, "").want(200, "")
	if names := members(t, a.body); len(names) != 2 {
		t.Errorf("cursor without limit: members %q", names)
	}
}

func TestBadPages(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{})
	deliveries := "/api/v1/webhooks/" + e.ID + "/deliveries"
	ofAttempts, ofEndpoints := *encodeCursor(attemptCursor, "1", "whd_x"), *encodeCursor(endpointCursor, "1", e.ID)
	for _, tt := range []struct{ path, query, field string }{
		{"/api/v1/webhooks", "limit=0", "limit"}, {"/api/v1/webhooks", "limit=251", "limit"}, {"/api/v1/webhooks", "limit=-1", "limit"},
		{"/api/v1/webhooks", "limit=", "limit"}, {"/api/v1/webhooks", "limit=x", "limit"}, {"/api/v1/webhooks", "limit=1.5", "limit"},
		{"/api/v1/webhooks", "limit=%2B1", "limit"}, {"/api/v1/webhooks", "limit=1&limit=2", "limit"}, {"/api/v1/webhooks", "limit=99999999999999999999", "limit"},
		{"/api/v1/webhooks", "cursor=", "cursor"}, {"/api/v1/webhooks", "cursor=x", "cursor"}, {"/api/v1/webhooks", "cursor=!!!", "cursor"},
		{"/api/v1/webhooks", "cursor=" + ofAttempts, "cursor"}, {"/api/v1/webhooks", "cursor=" + strings.Repeat("A", 300), "cursor"},
		{"/api/v1/webhooks", "cursor=" + ofEndpoints + "&cursor=" + ofEndpoints, "cursor"},
		{"/api/v1/webhooks", "cursor=" + *encodeCursor(endpointCursor, "x", e.ID), "cursor"},
		{"/api/v1/webhooks", "cursor=" + *encodeCursor(endpointCursor, "1", ""), "cursor"},
		{deliveries, "limit=0", "limit"}, {deliveries, "limit=101", "limit"}, {deliveries, "cursor=" + ofEndpoints, "cursor"},
		{deliveries, "cursor=AAAA", "cursor"}, {deliveries, "status=ok", "status"}, {deliveries, "status=", "status"},
		{deliveries, "status=failed&status=failed", "status"}, {deliveries, "status=Delivered", "status"},
	} {
		f.call("GET", tt.path+"?"+tt.query, "").want(400, core.CodeBadRequest, tt.field)
	}
	f.call("GET", "/api/v1/webhooks?other=1", "").want(200, "")
}
