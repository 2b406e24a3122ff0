package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The documents of the API that the product was founded on, as they stand there.
const (
	seedList = `{
"data": [
{
"id": "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14",
"url": "https://crm-bridge.example.com/webhook",
"events": ["call.qualified", "lead.created", "claim.scope.ready"],
"description": "Production CRM bridge",
"signing_secret_prefix": "whsec_a1b2c3",
"enabled": true,
"created_at": "2026-02-14T09:11:00.000Z",
"last_delivery_at": "2026-04-27T17:42:18.001Z",
"last_delivery_status": 200
}
]
}`
	seedEndpoint = `{
"id": "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14",
"url": "https://crm-bridge.example.com/webhook",
"events": ["call.qualified", "lead.created", "claim.scope.ready"],
"description": "Production CRM bridge",
"signing_secret_prefix": "whsec_a1b2c3",
"enabled": true,
"created_at": "2026-02-14T09:11:00.000Z",
"last_delivery_at": "2026-04-27T17:42:18.001Z",
"last_delivery_status": 200
}`
	seedCreateRequest = `{
"url": "https://crm-bridge.example.com/webhook",
"events": ["call.qualified", "lead.created", "claim.scope.ready"],
"description": "Production CRM bridge"
}`
	seedCreated = `{
"id": "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14",
"url": "https://crm-bridge.example.com/webhook",
"events": ["call.qualified", "lead.created", "claim.scope.ready"],
"description": "Production CRM bridge",
"signing_secret_prefix": "whsec_a1b2c3",
"enabled": true,
"created_at": "2026-02-14T09:11:00.000Z",
"signing_secret": "whsec_a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6",
"_warning": "Save this signing_secret now. It will not be shown again."
}`
	seedDeleted = `{
"id": "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14",
"deleted": true
}`
	seedRotated = `{
"id": "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14",
"url": "https://crm-bridge.example.com/webhook",
"signing_secret_prefix": "whsec_z9y8x7",
"signing_secret": "whsec_z9y8x7w6v5u4t3s2r1q0p9o8n7m6l5k4",
"_warning": "Save this signing_secret now. It will not be shown again. The previous secret remains valid for 24 hours."
}`
	seedDeliveries = `{
"data": [
{
"id": "whd_8w3p1m",
"event": "call.qualified",
"status": "delivered",
"response_status": 200,
"latency_ms": 142,
"attempt": 1,
"delivered_at": "2026-04-27T17:42:18.001Z"
}
],
"next_cursor": null
}`
)

// standing is what the contract adds to an endpoint: its shape, when nothing is
// wrong with the endpoint.
const standing = " state:string paused_until:null failing_since:null backlog:integer"

// sameShape compares an answer with a founding document: the same members in
// the same order with the same types. replace changes the document's shape, in
// pairs of old and new, where the contract extends it.
func sameShape(t *testing.T, what string, answer []byte, document string, replace ...string) {
	t.Helper()
	want := shape(t, []byte(document))
	for i := 0; i+1 < len(replace); i += 2 {
		if !strings.Contains(want, replace[i]) {
			t.Fatalf("the document of %s has no %q: %s", what, replace[i], want)
		}
		want = strings.Replace(want, replace[i], replace[i+1], 1)
	}
	if got := shape(t, answer); got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

// TestSeedDocuments walks the founding routes and compares each answer field
// for field with its document.
func TestSeedDocuments(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_BASE": "1h"})
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, func(n int, _ *received, w http.ResponseWriter) {
		if n == 2 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	neverTried := []string{"last_delivery_at:time", "last_delivery_at:null", "last_delivery_status:integer", "last_delivery_status:null" + standing}
	tried := []string{"last_delivery_status:integer", "last_delivery_status:integer" + standing}

	sameShape(t, "an empty list", acme.do(http.StatusOK, "GET", "/api/v1/webhooks", "").body, `{"data":[]}`)

	before := time.Now().Truncate(time.Millisecond)
	request := strings.Replace(seedCreateRequest, "https://crm-bridge.example.com/webhook", r.url(), 1)
	created := acme.do(http.StatusCreated, "POST", "/api/v1/webhooks", request)
	sameShape(t, "create", created.body, seedCreated)
	var e struct {
		endpoint
		CreatedAt time.Time `json:"created_at"`
	}
	created.decode(t, &e)
	path := "/api/v1/webhooks/" + e.ID
	if got := created.header.Get("Location"); got != path {
		t.Errorf("Location %q, want %q", got, path)
	}
	if e.CreatedAt.Before(before) || e.CreatedAt.After(time.Now()) {
		t.Errorf("created_at %v is not the time of the request", e.CreatedAt)
	}
	if e.SigningSecret[:12] != e.SigningSecretPrefix || e.Warning != "Save this signing_secret now. It will not be shown again." {
		t.Errorf("created with prefix %s and warning %q", e.SigningSecretPrefix, e.Warning)
	}
	if e.URL != r.url() || !e.Enabled || e.Description != "Production CRM bridge" || strings.Join(e.Events, " ") != "call.qualified lead.created claim.scope.ready" {
		t.Errorf("created %+v, which is not what was asked for", e.endpoint)
	}

	sameShape(t, "get before the first attempt", acme.do(http.StatusOK, "GET", path, "").body, seedEndpoint, neverTried...)
	sameShape(t, "list before the first attempt", acme.do(http.StatusOK, "GET", "/api/v1/webhooks", "").body, seedList, neverTried...)
	sameShape(t, "deliveries before the first attempt", acme.do(http.StatusOK, "GET", path+"/deliveries", "").body, `{"data":[],"next_cursor":null}`)

	event := acme.publish(1, "call.qualified", `{"n":1}`)
	r.await(1)
	s.eventually("the first attempt is recorded", func() bool { return len(acme.deliveries(e.ID)) == 1 })
	sameShape(t, "get", acme.do(http.StatusOK, "GET", path, "").body, seedEndpoint, tried...)
	sameShape(t, "list", acme.do(http.StatusOK, "GET", "/api/v1/webhooks", "").body, seedList, tried...)
	const delivered = "delivered_at:time"
	deliveries := acme.do(http.StatusOK, "GET", path+"/deliveries", "").body
	sameShape(t, "deliveries", deliveries, seedDeliveries, delivered, delivered+" event_id:event error:null next_attempt_at:null")
	if row := acme.deliveries(e.ID)[0]; row.EventID != event || row.Event != "call.qualified" || row.Status != "delivered" || row.Attempt != 1 || *row.ResponseStatus != 200 {
		t.Errorf("row %+v of event %s", row, event)
	}

	acme.publish(1, "lead.created", `{"n":2}`)
	r.await(2)
	s.eventually("the failed attempt is recorded", func() bool { return len(acme.deliveries(e.ID)) == 2 })
	failed := acme.do(http.StatusOK, "GET", path+"/deliveries?limit=1", "").body
	sameShape(t, "a failed attempt", failed, seedDeliveries, delivered, "delivered_at:null event_id:event error:string next_attempt_at:time", "next_cursor:null", "next_cursor:string")

	rotated := acme.do(http.StatusOK, "POST", path+"/rotate-secret", "")
	sameShape(t, "rotate", rotated.body, seedRotated)
	var fresh endpoint
	rotated.decode(t, &fresh)
	if fresh.SigningSecret == e.SigningSecret || fresh.SigningSecret[:12] != fresh.SigningSecretPrefix || fresh.ID != e.ID || fresh.URL != e.URL {
		t.Errorf("rotated to %+v", fresh)
	}
	if want := "Save this signing_secret now. It will not be shown again. The previous secret remains valid for 24 hours."; fresh.Warning != want {
		t.Errorf("_warning %q, want %q", fresh.Warning, want)
	}
	var now endpoint
	acme.do(http.StatusOK, "GET", path, "").decode(t, &now)
	if now.SigningSecretPrefix != fresh.SigningSecretPrefix || now.SigningSecret != "" {
		t.Errorf("after the rotation the endpoint is %+v", now)
	}

	deleted := acme.do(http.StatusOK, "DELETE", path, "")
	sameShape(t, "delete", deleted.body, seedDeleted)
	if want := `{"id":"` + e.ID + `","deleted":true}`; strings.TrimSuffix(string(deleted.body), "\n") != want {
		t.Errorf("delete answers %s, want %s", deleted.body, want)
	}
	for _, gone := range []string{"GET " + path, "DELETE " + path, "POST " + path + "/rotate-secret", "GET " + path + "/deliveries"} {
		method, at, _ := strings.Cut(gone, " ")
		acme.do(http.StatusNotFound, method, at, "").problem(t, http.StatusNotFound, "not_found")
	}
	for _, r := range []*response{created, rotated, deleted} {
		if r.header.Get("Content-Type") != "application/json" || r.header.Get("X-Request-Id") == "" {
			t.Errorf("headers of a success: %v", r.header)
		}
	}
}

// TestPatch changes an endpoint field by field.
func TestPatch(t *testing.T) {
	t.Parallel()
	s := newAPI(t, nil)
	acme := s.client("acme", "admin,publish")
	e := acme.subscribe("https://crm.example.com/hook", "call.qualified")
	path := "/api/v1/webhooks/" + e.ID
	get := func() endpoint {
		t.Helper()
		var now endpoint
		acme.do(http.StatusOK, "GET", path, "").decode(t, &now)
		return now
	}
	for _, step := range []struct {
		body  string
		apply func(*endpoint)
	}{
		{`{"url":"https://CRM.example.com:443/other?x=1"}`, func(e *endpoint) { e.URL = "https://crm.example.com/other?x=1" }},
		{`{"events":["lead.created","lead.updated"]}`, func(e *endpoint) { e.Events = []string{"lead.created", "lead.updated"} }},
		{`{"description":"Zoë's 𝄞 <bridge>"}`, func(e *endpoint) { e.Description = "Zoë's 𝄞 <bridge>" }},
		{`{"enabled":false}`, func(e *endpoint) { e.Enabled = false }},
		{`{"enabled":true,"description":"","url":"https://crm.example.com/hook","events":["call.qualified"]}`, func(e *endpoint) {
			e.Enabled, e.Description, e.URL, e.Events = true, "", "https://crm.example.com/hook", []string{"call.qualified"}
		}},
	} {
		want := get()
		step.apply(&want)
		answer := acme.do(http.StatusOK, "PATCH", path, step.body)
		sameShape(t, "patch", answer.body, seedEndpoint, "last_delivery_at:time", "last_delivery_at:null", "last_delivery_status:integer", "last_delivery_status:null"+standing)
		var got endpoint
		answer.decode(t, &got)
		for _, have := range []endpoint{got, get()} {
			if a, b := encoded(t, have), encoded(t, want); a != b {
				t.Errorf("PATCH %s:\n got %s\nwant %s", step.body, a, b)
			}
		}
	}

	// What an endpoint subscribes to, and whether at all, counts at once.
	acme.publish(1, "call.qualified", `1`)
	acme.do(http.StatusOK, "PATCH", path, `{"events":["lead.created"]}`)
	acme.publish(0, "call.qualified", `1`)
	acme.publish(1, "lead.created", `1`)
	acme.do(http.StatusOK, "PATCH", path, `{"enabled":false,"on_disable":"drop"}`)
	acme.publish(0, "lead.created", `1`)
	acme.do(http.StatusOK, "PATCH", path, `{"enabled":true}`)
	acme.publish(1, "lead.created", `1`)
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
