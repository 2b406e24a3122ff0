package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

func TestPatch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{
		URL: "https://old.example.com/", EventTypes: []string{"lead.created"}, Description: "old",
		DisabledBy: core.ReasonStatus410, Secrets: []core.Secret{{Prefix: "whsec_abcdef"}},
	})
	item := "/api/v1/webhooks/" + e.ID
	at := e.CreatedAt.UTC().Format(timeLayout)
	shown := func(url, events, description, enabled string) string {
		state := core.StateActive
		if !strings.HasPrefix(enabled, "true") {
			state = core.StateDisabled
		}
		return fmt.Sprintf(`{"id":"%s","url":"%s","events":%s,"description":"%s","signing_secret_prefix":"whsec_abcdef","enabled":%s,"created_at":"%s","last_delivery_at":null,"last_delivery_status":null,"state":"%s","paused_until":null,"failing_since":null,"backlog":0}`,
			e.ID, url, events, description, enabled, at, state)
	}
	tests := []struct {
		name, body, want string
		promise          bool // the answer has to wait
	}{
		{"nothing", `{}`, shown("https://old.example.com/", `["lead.created"]`, "old", `false,"disabled_reason":"status_410"`), false},
		{"description", `{"description":"a & <b>"}`, shown("https://old.example.com/", `["lead.created"]`, "a & <b>", `false,"disabled_reason":"status_410"`), false},
		{"enable", `{"enabled":true}`, shown("https://old.example.com/", `["lead.created"]`, "a & <b>", "true"), false},
		{"events", `{"events":["lead.updated","call.received"]}`, shown("https://old.example.com/", `["lead.updated","call.received"]`, "a & <b>", "true"), false},
		{"url, in canonical form", `{"url":"HTTPS://New.Example.COM:443/x?a=1&b=2"}`, shown("https://new.example.com/x?a=1&b=2", `["lead.updated","call.received"]`, "a & <b>", "true"), true},
		{"disable", `{"enabled":false,"description":""}`, shown("https://new.example.com/x?a=1&b=2", `["lead.updated","call.received"]`, "", "false"), true},
		{"disabled already", `{"enabled":false}`, shown("https://new.example.com/x?a=1&b=2", `["lead.updated","call.received"]`, "", "false"), true},
	}
	for _, tt := range tests {
		began := time.Now()
		a := f.call("PATCH", item, tt.body).want(200, "")
		if a.body != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, a.body, tt.want)
		}
		if took := time.Since(began); tt.promise && took < core.ChangeDelay {
			t.Errorf("%s: answered after %v; nothing is certain before %v", tt.name, took, core.ChangeDelay)
		}
	}
	if got := f.store.endpoints[e.Ref()]; got.DisabledBy != "" {
		t.Errorf("disabled by %q", got.DisabledBy)
	}
}

func TestMaxAgeOfEndpoint(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const member = `"enabled":true,"max_age":"24h","created_at"`
	var c createdJSON
	a := f.call("POST", "/api/v1/webhooks", `{"url":"https://a.example.com/","events":["lead.created"],"max_age":"24h"}`).want(201, "")
	a.decode(&c)
	item := "/api/v1/webhooks/" + c.ID
	if got := f.call("GET", item, "").want(200, ""); !strings.Contains(a.body, member) || !strings.Contains(got.body, member) {
		t.Errorf("created %s\nread %s", a.body, got.body)
	}
	for _, tt := range []struct{ change, want string }{
		{`{"max_age":"90s"}`, `"max_age":"1m30s"`},
		{`{"description":"new"}`, `"max_age":"1m30s"`},
		{`{"max_age":null}`, `"enabled":true,"created_at"`},
	} {
		if a := f.call("PATCH", item, tt.change).want(200, ""); !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: %s, want %s", tt.change, a.body, tt.want)
		}
	}
}

// A change that is done is answered as done, although the last attempt could not
// be read, and although the change took all of its time.
func TestPatchIsAnsweredAsDone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := f.store.add(core.Endpoint{URL: "https://a.example.com/", Enabled: true})
	f.store.attempts[e.ID] = []core.Attempt{{ResponseStatus: 200, StartedAt: time.Now()}}
	item := "/api/v1/webhooks/" + e.ID

	f.store.updateWait = storeBudget - core.ChangeDelay/2
	a := f.call("PATCH", item, `{"enabled":false}`).want(200, "")
	if !strings.Contains(a.body, `"last_delivery_status":200`) {
		t.Errorf("body %s", a.body)
	}
	f.store.updateWait = 0

	f.store.lastErr = core.Unavailable("storage did not confirm the operation", nil)
	a = f.call("PATCH", item, `{"description":"new"}`).want(200, "")
	if !strings.Contains(a.body, `"description":"new"`) || !strings.HasSuffix(a.body, `"last_delivery_at":null,"last_delivery_status":null}`) {
		t.Errorf("body %s", a.body)
	}
	f.call("PATCH", item, `{}`).want(503, core.CodeUnavailable) // nothing was changed

	f.store.lastErr, f.store.standErr, f.store.lookErr = nil, f.store.lastErr, f.store.lastErr
	a = f.call("PATCH", item, `{"rate_limit":7}`).want(200, "")
	if !strings.Contains(a.body, `"rate_limit":7,`) || !strings.HasSuffix(a.body, `"last_delivery_at":null,"last_delivery_status":null}`) {
		t.Errorf("body %s", a.body)
	}
	f.call("GET", item, "").want(503, core.CodeUnavailable)
}
