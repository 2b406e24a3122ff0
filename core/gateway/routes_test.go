package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/core"
)

const someID = "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14"

func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, path := range []string{
		"/", "/api", "/api/v1", "/api/v1/", "/api/v1/webhooks/", "/api/v1/webhooks//deliveries", "/api/v1/webhooks/" + someID + "/",
		"/api/v1/webhooks/" + someID + "/tests", "/api/v1/webhooks/" + someID + "/deliveries/x", "/api/v1/webhooks/" + someID + "/deliveries//replay",
		"/api/v1/webhooks/" + someID + "/recover/", "/api/v1/webhooks/" + someID + "/recover/x/y", "/api/v1/webhooks/" + someID + "/dead-letters/x", "/api/v1/events/", "/api/v1/events/batch/x",
		"/api/v1/event%2Dtypes", "/api/v1//events", "/api/v1/x/../events", "/API/V1/events", "/api/v2/events", "/api/v1/eventsx", "/metrics",
	} {
		// Without a key: a path is judged first.
		f.call("GET", path, "", "Authorization", "").want(404, core.CodeNotFound)
	}
}

func TestWrongMethods(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for path, allow := range map[string]string{
		"/api/v1/webhooks":                                    "GET, POST",
		"/api/v1/webhooks/" + someID:                          "GET, PATCH, DELETE",
		"/api/v1/webhooks/" + someID + "/rotate-secret":       "POST",
		"/api/v1/webhooks/" + someID + "/deliveries":          "GET",
		"/api/v1/webhooks/" + someID + "/test":                "POST",
		"/api/v1/webhooks/" + someID + "/deliveries/x/replay": "POST",
		"/api/v1/webhooks/" + someID + "/dead-letters":        "GET, DELETE",
		"/api/v1/webhooks/" + someID + "/dead-letters/replay": "POST",
		"/api/v1/webhooks/" + someID + "/recover":             "POST",
		"/api/v1/webhooks/" + someID + "/recover/x":           "GET",
		"/api/v1/event-types":                                 "GET",
		"/api/v1/events":                                      "POST",
		"/api/v1/events/evt_1":                                "GET",
		"/api/v1/events/batch":                                "POST",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PURGE"} {
			if strings.Contains(allow, method) {
				continue
			}
			a := f.call(method, path, "", "Authorization", "")
			if a.Header.Get("Allow") != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, path, a.Header.Get("Allow"), allow)
			}
			if method == "HEAD" {
				if a.StatusCode != 405 || a.body != "" {
					t.Errorf("HEAD %s: %d %q", path, a.StatusCode, a.body)
				}
				continue
			}
			a.want(405, core.CodeMethodNotAllowed)
		}
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{})
	item := "/api/v1/webhooks/" + e.ID
	routes := []struct {
		method, path string
		scope        core.Scope
	}{
		{"GET", "/api/v1/webhooks", core.ScopeRead},
		{"POST", "/api/v1/webhooks", core.ScopeAdmin},
		{"GET", item, core.ScopeRead},
		{"PATCH", item, core.ScopeAdmin},
		{"DELETE", item, core.ScopeAdmin},
		{"POST", item + "/rotate-secret", core.ScopeAdmin},
		{"GET", item + "/deliveries", core.ScopeRead},
		{"POST", item + "/test", core.ScopeAdmin},
		{"POST", item + "/deliveries/x/replay", core.ScopeAdmin},
		{"GET", item + "/dead-letters", core.ScopeRead},
		{"DELETE", item + "/dead-letters", core.ScopeAdmin},
		{"POST", item + "/dead-letters/replay", core.ScopeAdmin},
		{"POST", item + "/recover", core.ScopeAdmin},
		{"GET", item + "/recover/x", core.ScopeRead},
		{"GET", "/api/v1/event-types", core.ScopeRead},
		{"GET", "/api/v1/events/evt_1", core.ScopeRead},
		{"POST", "/api/v1/events", core.ScopePublish},
		{"POST", "/api/v1/events/batch", core.ScopePublish},
	}
	keys := map[core.Scope]string{}
	for _, s := range []core.Scope{core.ScopeRead, core.ScopeAdmin, core.ScopePublish} {
		keys[s] = f.store.addKey("acme", s)
	}
	none := f.store.addKey("acme")
	for _, r := range routes {
		f.call(r.method, r.path, "[", "Authorization", "Bearer "+none).want(403, core.CodeMissingScope).detail(string(r.scope))
		for scope, key := range keys {
			if scope == r.scope || scope == core.ScopeAdmin && r.scope == core.ScopeRead {
				continue
			}
			f.call(r.method, r.path, "[", "Authorization", "Bearer "+key).want(403, core.CodeMissingScope).detail(string(r.scope))
		}
	}
	f.call("GET", item, "", "Authorization", "Bearer "+keys[core.ScopeRead]).want(200, "")
	f.call("GET", item, "", "Authorization", "Bearer "+keys[core.ScopeAdmin]).want(200, "")
	if len(f.store.endpoints) != 1 || len(f.publisher.requests) != 0 {
		t.Error("something was done without the scope for it")
	}
}

// The order of judgement: each request is wrong in every later respect too.
func TestOrderOfJudgement(t *testing.T) {
	t.Parallel()
	f := setup(t)
	reader := f.store.addKey("acme", core.ScopeRead)
	e := f.store.add(core.Endpoint{})
	large := `{"url":` + strings.Repeat(" ", maxManagementBody)
	item := "/api/v1/webhooks/" + e.ID
	f.call("PATCH", "/api/v1/webhook/x", large, "Authorization", "").want(404, core.CodeNotFound)
	f.call("PUT", "/api/v1/webhooks/x", large, "Authorization", "").want(405, core.CodeMethodNotAllowed)
	f.call("PATCH", "/api/v1/webhooks/x", large, "Authorization", "Bearer sp_x").want(401, core.CodeUnauthorized)
	f.call("PATCH", "/api/v1/webhooks/x", large, "Authorization", "Bearer "+reader).want(403, core.CodeMissingScope)
	f.call("PATCH", "/api/v1/webhooks/x", large).want(404, core.CodeNotFound)
	f.call("PATCH", "/api/v1/webhooks/"+someID, large).want(404, core.CodeNotFound)
	f.call("PATCH", item, large).want(413, core.CodeTooLarge)
	f.call("PATCH", item, `{"url":"http://x","nope"`).want(400, core.CodeInvalidJSON)
	f.call("PATCH", item, `{"url":"http://x","nope":1}`).want(422, core.CodeInvalid, "nope", "url")
	f.call("GET", "/api/v1/webhooks/"+someID+"/deliveries?limit=0", "").want(404, core.CodeNotFound)
}

// Another organization's endpoint answers exactly like one that never was, and
// like one that cannot be.
func TestOtherOrganizations(t *testing.T) {
	t.Parallel()
	f := setup(t)
	foreign := f.store.add(core.Endpoint{Organization: "other", URL: "https://other.example.com/"})
	for _, r := range [][2]string{{"GET", ""}, {"PATCH", ""}, {"DELETE", ""}, {"POST", "/rotate-secret"}, {"GET", "/deliveries"}} {
		var bodies []string
		for _, id := range []string{foreign.ID, someID, "x", strings.ToUpper(foreign.ID), foreign.ID + "0"} {
			a := f.call(r[0], "/api/v1/webhooks/"+id+r[1], `{}`, "X-Request-Id", "same").want(404, core.CodeNotFound)
			bodies = append(bodies, a.body)
		}
		for _, b := range bodies[1:] {
			if b != bodies[0] {
				t.Errorf("%s: distinguishable answers\n%s\n%s", r[0], bodies[0], b)
			}
		}
	}
	var list struct{ Data []struct{ ID string } }
	f.call("GET", "/api/v1/webhooks", "").want(200, "").decode(&list)
	if len(list.Data) != 0 || len(f.store.endpoints) != 1 {
		t.Error("another organization's endpoint was seen or changed")
	}
}

func TestEventTypes(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.EventTypes = core.EventTypes{"a.b", "c"} })
	if a := f.call("GET", "/api/v1/event-types", "").want(200, ""); !strings.HasPrefix(a.body, `{"data":["a.b","c",`) {
		t.Errorf("body %s", a.body)
	}
	f.call("POST", "/api/v1/events", `{"type":"call.qualified","data":1}`).want(422, core.CodeInvalid, "type")
	f.call("POST", "/api/v1/events", `{"type":"a.b","data":1}`).want(202, "")
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	f := setup(t)
	longest := strings.Repeat("a", maxRequestID)
	for given, kept := range map[string]bool{
		"abc-1_2.Z": true, longest: true, longest + "a": false, "a b": false, "é": false, "": false, "a/b": false,
	} {
		got := f.call("GET", "/x", "", "X-Request-Id", given).want(404, core.CodeNotFound).Header.Get("X-Request-Id")
		if (got == given) != kept || !validRequestID([]byte(got)) {
			t.Errorf("given %q, answered %q", given, got)
		}
	}
	if first, second := newRequestID(), newRequestID(); first == second {
		t.Error("request ids repeat")
	}
	a := f.call("GET", "/api/v1/event-types", "")
	if a.Header.Get("X-Request-Id") == "" || a.Header.Get("Server") != "" || a.StatusCode != http.StatusOK {
		t.Errorf("headers %v", a.Header)
	}
}
