package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// refusal is a request that is refused, and how. `{id}` in the path stands for
// an endpoint of the caller, `{unknown}` for one that never was.
type refusal struct {
	name    string
	method  string
	path    string
	body    string
	headers []string // in pairs
	key     string   // scopes of the key; "" is all of them, "none" no key
	status  int
	code    string
	field   string // of the first error
	detail  string // part of the detail
}

const (
	hooks   = "/api/v1/webhooks"
	hook    = "/api/v1/webhooks/{id}"
	rotate  = "/api/v1/webhooks/{id}/rotate-secret"
	logPath = "/api/v1/webhooks/{id}/deliveries"
	events  = "/api/v1/events"
	batch   = "/api/v1/events/batch"
	never   = "/api/v1/webhooks/f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14"

	good     = `{"url":"https://crm.example.com/hook","events":["call.qualified"]}`
	goodItem = `{"type":"call.qualified","data":1}`
)

// sized returns a JSON string of n bytes, quotes included.
func sized(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }

// nested returns n arrays within each other.
func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// managementRefusals are about bodies and queries of the management routes.
func managementRefusals() []refusal {
	return []refusal{
		{name: "no body", method: "POST", path: hooks, status: 400, code: "invalid_json", detail: "offset 0"},
		{name: "not JSON", method: "POST", path: hooks, body: `url=https://x`, status: 400, code: "invalid_json", detail: "offset 0"},
		{name: "cut off", method: "POST", path: hooks, body: `{"url":"https://crm`, status: 400, code: "invalid_json", detail: "offset 19"},
		{name: "missing comma", method: "POST", path: hooks, body: `{"url":"https://x.com" "events":[]}`, status: 400, code: "invalid_json", detail: "offset 23"},
		{name: "trailing comma", method: "POST", path: hooks, body: `{"url":"https://x.com",}`, status: 400, code: "invalid_json", detail: "offset 23"},
		{name: "single quotes", method: "POST", path: hooks, body: `{'url':1}`, status: 400, code: "invalid_json", detail: "offset 1"},
		{name: "something after the document", method: "POST", path: hooks, body: good + `{}`, status: 400, code: "invalid_json", detail: fmt.Sprintf("offset %d", len(good))},
		{name: "byte order mark", method: "POST", path: hooks, body: "\ufeff" + good, status: 400, code: "invalid_json"},
		{name: "invalid UTF-8", method: "POST", path: hooks, body: "{\"description\":\"\xff\"}", status: 400, code: "invalid_json", detail: "offset 16"},
		{name: "control character", method: "POST", path: hooks, body: "{\"description\":\"\n\"}", status: 400, code: "invalid_json"},
		{name: "nested too deep", method: "POST", path: hooks, body: `{"events":` + nested(128) + `}`, status: 400, code: "invalid_json"},
		{name: "an array", method: "POST", path: hooks, body: `[]`, status: 422, code: "invalid"},
		{name: "null", method: "POST", path: hooks, body: `null`, status: 422, code: "invalid"},
		{name: "empty object", method: "POST", path: hooks, body: `{}`, status: 422, code: "invalid", field: "url"},
		{name: "url missing", method: "POST", path: hooks, body: `{"events":["call.qualified"]}`, status: 422, code: "invalid", field: "url"},
		{name: "events missing", method: "POST", path: hooks, body: `{"url":"https://crm.example.com/"}`, status: 422, code: "invalid", field: "events"},
		{name: "url is a number", method: "POST", path: hooks, body: `{"url":1,"events":["call.qualified"]}`, status: 422, code: "invalid", field: "url"},
		{name: "url is null", method: "POST", path: hooks, body: `{"url":null,"events":["call.qualified"]}`, status: 422, code: "invalid", field: "url"},
		{name: "events is a string", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":"call.qualified"}`, status: 422, code: "invalid", field: "events"},
		{name: "an event is a number", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":["call.qualified",7]}`, status: 422, code: "invalid", field: "events[1]"},
		{name: "no events", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":[]}`, status: 422, code: "invalid", field: "events"},
		{name: "unknown event", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":["lead.created","call.dropped"]}`, status: 422, code: "invalid", field: "events[1]"},
		{name: "event named twice", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":["lead.created","lead.created"]}`, status: 422, code: "invalid", field: "events[1]"},
		{name: "description is an object", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":["lead.created"],"description":{}}`, status: 422, code: "invalid", field: "description"},
		{name: "description too long", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":["lead.created"],"description":` + sized(1024+2+1) + `}`, status: 422, code: "invalid", field: "description", detail: "1024"},
		{name: "unknown field", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":["lead.created"],"secret":"whsec_x"}`, status: 422, code: "invalid", field: "secret"},
		{name: "field of another letter case", method: "POST", path: hooks, body: `{"URL":"https://x.com/","events":["lead.created"]}`, status: 422, code: "invalid", field: "URL"},
		{name: "field not built yet", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":["lead.created"],"headers":{}}`, status: 422, code: "invalid", field: "headers"},
		{name: "repeated field", method: "POST", path: hooks, body: `{"url":"https://x.com/","url":"https://y.com/","events":["lead.created"]}`, status: 422, code: "invalid", field: "url"},
		{name: "repeated field, spelled otherwise", method: "POST", path: hooks, body: `{"url":"https://x.com/","\u0075rl":"https://y.com/","events":["lead.created"]}`, status: 422, code: "invalid", field: "url"},
		{name: "body of 64 KiB and one byte", method: "POST", path: hooks, body: sized(64<<10 + 1), status: 413, code: "too_large", detail: "64 KiB"},
		{name: "body of 5 MiB", method: "POST", path: hooks, body: sized(5 << 20), status: 413, code: "too_large", detail: "64 KiB"},
		{name: "compressed body", method: "POST", path: hooks, body: good, headers: []string{"Content-Encoding", "gzip"}, status: 400, code: "bad_request"},

		{name: "patch without body", method: "PATCH", path: hook, status: 400, code: "invalid_json", detail: "offset 0"},
		{name: "patch cut off", method: "PATCH", path: hook, body: `{`, status: 400, code: "invalid_json", detail: "offset 1"},
		{name: "patch enabled", method: "PATCH", path: hook, body: `{"enabled":"yes"}`, status: 422, code: "invalid", field: "enabled"},
		{name: "patch enabled to null", method: "PATCH", path: hook, body: `{"enabled":null}`, status: 422, code: "invalid", field: "enabled"},
		{name: "patch url", method: "PATCH", path: hook, body: `{"url":"http://crm.example.com/"}`, status: 422, code: "invalid", field: "url"},
		{name: "patch events", method: "PATCH", path: hook, body: `{"events":["call.dropped"]}`, status: 422, code: "invalid", field: "events[0]"},
		{name: "patch away all events", method: "PATCH", path: hook, body: `{"events":[]}`, status: 422, code: "invalid", field: "events"},
		{name: "patch id", method: "PATCH", path: hook, body: `{"id":"x"}`, status: 422, code: "invalid", field: "id"},
		{name: "patch half good", method: "PATCH", path: hook, body: `{"enabled":false,"max_in_flight":0}`, status: 422, code: "invalid", field: "max_in_flight"},
		{name: "rate above the limit", method: "PATCH", path: hook, body: `{"rate_limit":10001}`, status: 422, code: "invalid", field: "rate_limit", detail: "10000"},
		{name: "rate is a string", method: "POST", path: hooks, body: `{"url":"https://x.com/","events":["lead.created"],"rate_limit":"5"}`, status: 422, code: "invalid", field: "rate_limit"},
		{name: "half an attempt in flight", method: "PATCH", path: hook, body: `{"max_in_flight":0.5}`, status: 422, code: "invalid", field: "max_in_flight", detail: "integer"},
		{name: "unknown ordering", method: "PATCH", path: hook, body: `{"ordering":"lifo"}`, status: 422, code: "invalid", field: "ordering", detail: "fifo"},
		{name: "fifo with several in flight", method: "PATCH", path: hook, body: `{"ordering":"fifo","max_in_flight":2}`, status: 422, code: "invalid", field: "ordering", detail: "one at a time"},
		{name: "unknown on_disable", method: "PATCH", path: hook, body: `{"on_disable":"keep"}`, status: 422, code: "invalid", field: "on_disable", detail: "hold"},
		{name: "patch state", method: "PATCH", path: hook, body: `{"state":"active"}`, status: 422, code: "invalid", field: "state"},
		{name: "patch too large", method: "PATCH", path: hook, body: sized(64<<10 + 1), status: 413, code: "too_large", detail: "64 KiB"},

		{name: "overlap is no duration", method: "POST", path: rotate, body: `{"overlap":"soon"}`, status: 422, code: "invalid", field: "overlap"},
		{name: "overlap is a number", method: "POST", path: rotate, body: `{"overlap":24}`, status: 422, code: "invalid", field: "overlap"},
		{name: "negative overlap", method: "POST", path: rotate, body: `{"overlap":"-1s"}`, status: 422, code: "invalid", field: "overlap"},
		{name: "overlap too long", method: "POST", path: rotate, body: `{"overlap":"168h1s"}`, status: 422, code: "invalid", field: "overlap"},
		{name: "rotate with unknown field", method: "POST", path: rotate, body: `{"secret":"whsec_x"}`, status: 422, code: "invalid", field: "secret"},
		{name: "rotate with broken body", method: "POST", path: rotate, body: `{"overlap"}`, status: 400, code: "invalid_json", detail: "offset 10"},
		{name: "rotate with large body", method: "POST", path: rotate, body: sized(64<<10 + 1), status: 413, code: "too_large", detail: "64 KiB"},

		{name: "limit 0", method: "GET", path: hooks + "?limit=0", status: 400, code: "bad_request", detail: "limit"},
		{name: "limit 251", method: "GET", path: hooks + "?limit=251", status: 400, code: "bad_request", detail: "limit"},
		{name: "negative limit", method: "GET", path: hooks + "?limit=-1", status: 400, code: "bad_request", detail: "limit"},
		{name: "limit is a word", method: "GET", path: hooks + "?limit=all", status: 400, code: "bad_request", detail: "limit"},
		{name: "empty limit", method: "GET", path: hooks + "?limit=", status: 400, code: "bad_request", detail: "limit"},
		{name: "limit out of all bounds", method: "GET", path: hooks + "?limit=99999999999999999999", status: 400, code: "bad_request", detail: "limit"},
		{name: "made-up cursor", method: "GET", path: hooks + "?limit=1&cursor=abc", status: 400, code: "bad_request", detail: "cursor"},
		{name: "rows limit 101", method: "GET", path: logPath + "?limit=101", status: 400, code: "bad_request", detail: "limit"},
		{name: "rows limit 0", method: "GET", path: logPath + "?limit=0", status: 400, code: "bad_request", detail: "limit"},
		{name: "rows made-up cursor", method: "GET", path: logPath + "?cursor=%00%ff", status: 400, code: "bad_request", detail: "cursor"},
		{name: "rows unknown status", method: "GET", path: logPath + "?status=lost", status: 400, code: "bad_request", detail: "status"},
	}
}

// publishRefusals are about single events and whole batches.
func publishRefusals() []refusal {
	return []refusal{
		{name: "event without body", method: "POST", path: events, status: 400, code: "invalid_json", detail: "offset 0"},
		{name: "event cut off", method: "POST", path: events, body: `{"type":"call.qualified","data":[1,`, status: 400, code: "invalid_json", detail: "offset 35"},
		{name: "event with something behind", method: "POST", path: events, body: goodItem + " x", status: 400, code: "invalid_json", detail: fmt.Sprintf("offset %d", len(goodItem)+1)},
		{name: "two events", method: "POST", path: events, body: goodItem + goodItem, status: 400, code: "invalid_json"},
		{name: "event of invalid UTF-8", method: "POST", path: events, body: "{\"type\":\"call.qualified\",\"data\":\"\xc3\x28\"}", status: 400, code: "invalid_json", detail: "offset 33"},
		{name: "overlong UTF-8", method: "POST", path: events, body: "{\"type\":\"call.qualified\",\"data\":\"\xc0\xaf\"}", status: 400, code: "invalid_json"},
		{name: "surrogate as UTF-8", method: "POST", path: events, body: "{\"type\":\"call.qualified\",\"data\":\"\xed\xa0\x80\"}", status: 400, code: "invalid_json"},
		{name: "number with a leading zero", method: "POST", path: events, body: `{"type":"call.qualified","data":01}`, status: 400, code: "invalid_json", detail: "offset 33"},
		{name: "NaN", method: "POST", path: events, body: `{"type":"call.qualified","data":NaN}`, status: 400, code: "invalid_json"},
		{name: "bad escape", method: "POST", path: events, body: `{"type":"call.qualified","data":"\x"}`, status: 400, code: "invalid_json"},
		{name: "comment", method: "POST", path: events, body: `{"type":"call.qualified",/*x*/"data":1}`, status: 400, code: "invalid_json"},
		{name: "nested too deep", method: "POST", path: events, body: `{"type":"call.qualified","data":` + nested(128) + `}`, status: 400, code: "invalid_json", detail: "128"},
		{name: "event is an array", method: "POST", path: events, body: `[` + goodItem + `]`, status: 422, code: "invalid"},
		{name: "event is a string", method: "POST", path: events, body: `"call.qualified"`, status: 422, code: "invalid"},
		{name: "type missing", method: "POST", path: events, body: `{"data":1}`, status: 422, code: "invalid", field: "type"},
		{name: "data missing", method: "POST", path: events, body: `{"type":"call.qualified"}`, status: 422, code: "invalid", field: "data"},
		{name: "type is a number", method: "POST", path: events, body: `{"type":1,"data":1}`, status: 422, code: "invalid", field: "type"},
		{name: "unknown type", method: "POST", path: events, body: `{"type":"call.dropped","data":1}`, status: 422, code: "invalid", field: "type"},
		{name: "type of another letter case", method: "POST", path: events, body: `{"type":"Call.Qualified","data":1}`, status: 422, code: "invalid", field: "type"},
		{name: "id with a full stop", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"id":"a.b"}`, status: 422, code: "invalid", field: "id"},
		{name: "empty id", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"id":""}`, status: 422, code: "invalid", field: "id"},
		{name: "id of 65 characters", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"id":` + sized(67) + `}`, status: 422, code: "invalid", field: "id"},
		{name: "id is a number", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"id":17}`, status: 422, code: "invalid", field: "id"},
		{name: "id is null", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"id":null}`, status: 422, code: "invalid", field: "id"},
		{name: "timestamp is a word", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"timestamp":"yesterday"}`, status: 422, code: "invalid", field: "timestamp"},
		{name: "timestamp without zone", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"timestamp":"2026-02-14T09:11:00"}`, status: 422, code: "invalid", field: "timestamp"},
		{name: "timestamp on no calendar", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"timestamp":"2026-02-30T09:11:00Z"}`, status: 422, code: "invalid", field: "timestamp"},
		{name: "timestamp is a number", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"timestamp":1777311738}`, status: 422, code: "invalid", field: "timestamp"},
		{name: "unknown member", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"payload":2}`, status: 422, code: "invalid", field: "payload"},
		{name: "repeated data", method: "POST", path: events, body: `{"type":"call.qualified","data":1,"data":2}`, status: 422, code: "invalid", field: "data"},
		{name: "data above its limit", method: "POST", path: events, body: `{"type":"call.qualified","data":` + sized(256<<10+1) + `}`, status: 413, code: "too_large", detail: "256 KiB"},
		{name: "event of 5 MiB", method: "POST", path: events, body: `{"type":"call.qualified","data":` + sized(5<<20) + `}`, status: 413, code: "too_large", detail: "KiB"},

		{name: "empty idempotency key", method: "POST", path: events, body: goodItem, headers: []string{"Idempotency-Key", ""}, status: 400, code: "bad_request", detail: "Idempotency-Key"},
		{name: "idempotency key of 256 characters", method: "POST", path: events, body: goodItem, headers: []string{"Idempotency-Key", strings.Repeat("k", 256)}, status: 400, code: "bad_request", detail: "255"},
		{name: "idempotency key with a space", method: "POST", path: events, body: goodItem, headers: []string{"Idempotency-Key", "a b"}, status: 400, code: "bad_request", detail: "Idempotency-Key"},
		{name: "idempotency key outside of ASCII", method: "POST", path: events, body: goodItem, headers: []string{"Idempotency-Key", "clé"}, status: 400, code: "bad_request", detail: "Idempotency-Key"},
		{name: "idempotency key of a batch with a space", method: "POST", path: batch, body: `[` + goodItem + `]`, headers: []string{"Idempotency-Key", "a b"}, status: 400, code: "bad_request", detail: "Idempotency-Key"},

		{name: "batch without body", method: "POST", path: batch, status: 400, code: "invalid_json", detail: "offset 0"},
		{name: "batch cut off", method: "POST", path: batch, body: `[` + goodItem, status: 400, code: "invalid_json", detail: fmt.Sprintf("offset %d", len(goodItem)+1)},
		{name: "batch with a broken item", method: "POST", path: batch, body: `[` + goodItem + `,{"type":}]`, status: 400, code: "invalid_json", detail: fmt.Sprintf("offset %d", len(goodItem)+10)},
		{name: "batch with a trailing comma", method: "POST", path: batch, body: `[` + goodItem + `,]`, status: 400, code: "invalid_json"},
		{name: "batch with something behind", method: "POST", path: batch, body: `[` + goodItem + `]]`, status: 400, code: "invalid_json", detail: fmt.Sprintf("offset %d", len(goodItem)+2)},
		{name: "batch is an object", method: "POST", path: batch, body: goodItem, status: 422, code: "invalid"},
		{name: "lines sent as an array", method: "POST", path: batch, body: goodItem + "\n" + goodItem, status: 400, code: "invalid_json"},
		{name: "1,001 events", method: "POST", path: batch, body: `[` + strings.Repeat(goodItem+",", 1000) + goodItem + `]`, status: 413, code: "too_large", detail: "1000"},
		{name: "1,001 lines", method: "POST", path: batch, body: strings.Repeat(goodItem+"\n", 1001), headers: []string{"Content-Type", "application/x-ndjson"}, status: 413, code: "too_large", detail: "1000"},
		{name: "batch above 5 MiB", method: "POST", path: batch, body: `[` + goodItem + strings.Repeat(" ", 5<<20) + `]`, status: 413, code: "too_large", detail: "5 MiB"},
		{name: "lines above 5 MiB", method: "POST", path: batch, body: goodItem + strings.Repeat("\n", 5<<20), headers: []string{"Content-Type", "application/x-ndjson"}, status: 413, code: "too_large", detail: "5 MiB"},
	}
}

// accessRefusals are about paths, methods, keys, scopes and resources, and the
// order in which all is judged.
func accessRefusals() []refusal {
	return []refusal{
		{name: "unknown path", method: "GET", path: "/api/v1/nothing", status: 404, code: "not_found"},
		{name: "root", method: "GET", path: "/", status: 404, code: "not_found"},
		{name: "trailing slash", method: "GET", path: hooks + "/", status: 404, code: "not_found"},
		{name: "doubled slash", method: "GET", path: "/api//v1/webhooks", status: 404, code: "not_found"},
		{name: "encoded path", method: "GET", path: "/api/v1/web%68ooks", status: 404, code: "not_found"},
		{name: "dots", method: "GET", path: "/api/v1/x/../webhooks", status: 404, code: "not_found"},
		{name: "another letter case", method: "GET", path: "/api/v1/Webhooks", status: 404, code: "not_found"},
		{name: "unknown event", method: "GET", path: "/api/v1/events/evt_1", status: 404, code: "not_found"},
		{name: "admin path", method: "GET", path: "/metrics", status: 404, code: "not_found"},
		{name: "unknown path without key", method: "GET", path: "/api/v1/nothing", key: "none", status: 404, code: "not_found"},

		{name: "PUT", method: "PUT", path: hooks, status: 405, code: "method_not_allowed", detail: "GET, POST"},
		{name: "DELETE of all", method: "DELETE", path: hooks, status: 405, code: "method_not_allowed", detail: "GET, POST"},
		{name: "POST to one", method: "POST", path: hook, body: good, status: 405, code: "method_not_allowed", detail: "GET, PATCH, DELETE"},
		{name: "GET rotate", method: "GET", path: rotate, status: 405, code: "method_not_allowed", detail: "POST"},
		{name: "POST deliveries", method: "POST", path: logPath, status: 405, code: "method_not_allowed", detail: "GET"},
		{name: "GET events", method: "GET", path: events, status: 405, code: "method_not_allowed", detail: "POST"},
		{name: "GET batch", method: "GET", path: batch, status: 405, code: "method_not_allowed", detail: "POST"},
		{name: "POST event types", method: "POST", path: "/api/v1/event-types", status: 405, code: "method_not_allowed", detail: "GET"},
		{name: "OPTIONS", method: "OPTIONS", path: hooks, status: 405, code: "method_not_allowed"},
		{name: "made-up method", method: "BREW", path: hooks, status: 405, code: "method_not_allowed"},
		{name: "wrong method without key", method: "PUT", path: hooks, key: "none", status: 405, code: "method_not_allowed"},

		{name: "no key", method: "GET", path: hooks, key: "none", status: 401, code: "unauthorized"},
		{name: "no key for an unknown id", method: "GET", path: never, key: "none", status: 401, code: "unauthorized"},
		{name: "other scheme", method: "GET", path: hooks, key: "none", headers: []string{"Authorization", "Basic c3A6c3A="}, status: 401, code: "unauthorized"},
		{name: "scheme alone", method: "GET", path: hooks, key: "none", headers: []string{"Authorization", "Bearer"}, status: 401, code: "unauthorized"},
		{name: "junk key", method: "GET", path: hooks, key: "none", headers: []string{"Authorization", "Bearer sp_junk"}, status: 401, code: "unauthorized"},
		{name: "key with a wrong checksum", method: "GET", path: hooks, key: "none", headers: []string{"Authorization", "Bearer sp_000000000000000000000000000000000000"}, status: 401, code: "unauthorized"},
		{name: "well-formed key that nobody has", method: "GET", path: hooks, key: "none", headers: []string{"Authorization", "Bearer sp_0000000000000000000000000000003zYQqW"}, status: 401, code: "unauthorized"},
		{name: "no key before size", method: "POST", path: batch, key: "none", body: sized(6 << 20), status: 401, code: "unauthorized"},
		{name: "no key before syntax", method: "POST", path: hooks, key: "none", body: `{`, status: 401, code: "unauthorized"},

		{name: "publish may not read", method: "GET", path: hooks, key: "publish", status: 403, code: "missing_scope", detail: "read"},
		{name: "publish may not read event types", method: "GET", path: "/api/v1/event-types", key: "publish", status: 403, code: "missing_scope", detail: "read"},
		{name: "read may not create", method: "POST", path: hooks, key: "read", body: good, status: 403, code: "missing_scope", detail: "admin"},
		{name: "read may not change", method: "PATCH", path: hook, key: "read", body: `{"enabled":false}`, status: 403, code: "missing_scope", detail: "admin"},
		{name: "read may not delete", method: "DELETE", path: hook, key: "read", status: 403, code: "missing_scope", detail: "admin"},
		{name: "read may not rotate", method: "POST", path: rotate, key: "read", status: 403, code: "missing_scope", detail: "admin"},
		{name: "admin may not publish", method: "POST", path: events, key: "admin", body: goodItem, status: 403, code: "missing_scope", detail: "publish"},
		{name: "admin may not publish a batch", method: "POST", path: batch, key: "admin", body: `[]`, status: 403, code: "missing_scope", detail: "publish"},
		{name: "scope before resource", method: "DELETE", path: never, key: "read", status: 403, code: "missing_scope", detail: "admin"},
		{name: "scope before size", method: "POST", path: batch, key: "read", body: sized(6 << 20), status: 403, code: "missing_scope", detail: "publish"},

		{name: "id that never was", method: "GET", path: never, status: 404, code: "not_found"},
		{name: "malformed id", method: "GET", path: hooks + "/17", status: 404, code: "not_found"},
		{name: "id in upper case", method: "GET", path: "/api/v1/webhooks/F4E9C2A8-7D31-4B6F-9C83-21E5D4A07B14", status: 404, code: "not_found"},
		{name: "id with a brace", method: "GET", path: "/api/v1/webhooks/f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b1}", status: 404, code: "not_found"},
		{name: "patch malformed id", method: "PATCH", path: hooks + "/17", body: `{}`, status: 404, code: "not_found"},
		{name: "delete malformed id", method: "DELETE", path: hooks + "/17", status: 404, code: "not_found"},
		{name: "rotate malformed id", method: "POST", path: hooks + "/17/rotate-secret", status: 404, code: "not_found"},
		{name: "deliveries of a malformed id", method: "GET", path: hooks + "/17/deliveries", status: 404, code: "not_found"},
		{name: "resource before size", method: "PATCH", path: never, body: sized(64<<10 + 1), status: 404, code: "not_found"},
		{name: "resource before syntax", method: "PATCH", path: never, body: `{`, status: 404, code: "not_found"},
		{name: "resource before syntax of rotate", method: "POST", path: never + "/rotate-secret", body: `{`, status: 404, code: "not_found"},
		{name: "resource before query", method: "GET", path: never + "/deliveries?limit=0", status: 404, code: "not_found"},
		{name: "size before syntax", method: "POST", path: hooks, body: strings.Repeat("{", 64<<10+1), status: 413, code: "too_large"},
		{name: "syntax before rules", method: "POST", path: hooks, body: `{"url":5,"nothing":1,`, status: 400, code: "invalid_json"},
	}
}

// TestRefused sends every bad request and checks its answer, and that Redis
// holds the same afterwards.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := newAPI(t, nil)
	clients := map[string]*client{"none": {s: s}, "": s.client("acme", "read,admin,publish")}
	for _, scope := range []string{"read", "admin", "publish"} {
		clients[scope] = s.client("acme", scope)
	}
	e := clients[""].subscribe("https://crm.example.com/hook", "call.qualified")
	redis := s.redis.Client(t)
	before := contents(t, redis)
	// One after the other: each has to leave Redis as it was.
	for _, group := range []struct {
		name     string
		refusals []refusal
	}{{"access", accessRefusals()}, {"management", managementRefusals()}, {"publish", publishRefusals()}} {
		for _, tt := range group.refusals {
			t.Run(group.name+"/"+tt.name, func(t *testing.T) {
				c := clients[tt.key].in(t)
				r, err := c.try(tt.method, strings.Replace(tt.path, "{id}", e.ID, 1), tt.body, tt.headers...)
				if err != nil {
					t.Fatalf("no answer: %v", err)
				}
				p := r.problem(t, tt.status, tt.code)
				if tt.field != p.field() && tt.field != "" {
					t.Errorf("the first error is about %q, want %q: %s", p.field(), tt.field, r.body)
				}
				if !strings.Contains(p.Detail, tt.detail) {
					t.Errorf("detail %q does not contain %q", p.Detail, tt.detail)
				}
				checkHeaders(t, r)
				unchanged(t, before, redis)
			})
		}
	}
	if got := clients[""].publish(1, "call.qualified", `1`); got == "" {
		t.Error("after all that, an event is not accepted")
	}
}

// checkHeaders checks the headers that go with a status.
func checkHeaders(t *testing.T, r *response) {
	t.Helper()
	for status, name := range map[int]string{http.StatusUnauthorized: "Www-Authenticate", http.StatusMethodNotAllowed: "Allow"} {
		if got := r.header.Get(name); (got != "") != (r.status == status) {
			t.Errorf("status %d with %s %q", r.status, name, got)
		}
	}
	if got := r.header.Get("Www-Authenticate"); got != "" && !strings.HasPrefix(got, "Bearer") {
		t.Errorf("WWW-Authenticate %q does not ask for Bearer", got)
	}
}
