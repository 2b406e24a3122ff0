package dashboards

// publishing are the requests that post events.
const publishing = `route=~"POST /api/v1/events.*"`

func gateway() Dashboard {
	return Dashboard{
		UID: "sealpost-gateway", Title: "Sealpost / Gateway",
		Description: "The producers' side: what is asked of the API, how fast it answers, what becomes of the events.",
		Rows: []Row{
			{Title: "At a glance", Panels: []Panel{
				stat("Events accepted", EventsPerSec, "Events stored with all their deliveries, a second.", rate("sealpost_events_accepted_total", "").Expr),
				stat("Accept availability", Ratio, "Share of publishing requests that were not answered 5xx, over the time shown. Objective: 99.9 %.",
					`1 - sum(increase(sealpost_gateway_requests_total{@,`+publishing+`,code=~"5.."}[$__range])) / clamp_min(sum(increase(sealpost_gateway_requests_total{@,`+publishing+`}[$__range])), 1e-9)`).below(0.999, 0.99),
				stat("Accept latency, p99", Seconds, "99 % of publishing requests are answered within this time. Objective: 100 ms.",
					`histogram_quantile(0.99, sum by (le) (rate(sealpost_gateway_request_duration_seconds_bucket{@,`+publishing+`}[$__rate_interval])))`).above(0.1, 1),
				stat("Events refused", EventsPerSec, "Events refused or not confirmed, a second, whatever the reason.", rate("sealpost_events_rejected_total", "").Expr).above(1, 100),
				stat("Events pending", Count, "Events that wait to be stored or are being stored; at 20,000 a gateway refuses more.", "sum(sealpost_publish_pending_events{@})").above(5000, 15000),
				stat("Gateways", Count, "Processes that are scraped as gateways.", `count(sealpost_build_info{@,role=~"gateway|dev"})`).below(2, 1),
			}},
			{Title: "Requests", Panels: []Panel{
				lines("Requests by route", RequestPerSec, "`unmatched` is what reached no route: wrong path or method.", rate("sealpost_gateway_requests_total", "{{route}}", "route")),
				lines("Requests refused, by status", RequestPerSec, "4xx are the callers' mistakes, 503 is what could not be confirmed, 500 is ours.",
					rate(`sealpost_gateway_requests_total{@,code=~"4..|5.."}`, "{{code}}", "code")),
				lines("Publishing, duration", Seconds, "From a request's head to its answer, of single events and batches together.",
					Query{`histogram_quantile(0.5, sum by (le) (rate(sealpost_gateway_request_duration_seconds_bucket{@,` + publishing + `}[$__rate_interval])))`, "p50"},
					Query{`histogram_quantile(0.9, sum by (le) (rate(sealpost_gateway_request_duration_seconds_bucket{@,` + publishing + `}[$__rate_interval])))`, "p90"},
					Query{`histogram_quantile(0.99, sum by (le) (rate(sealpost_gateway_request_duration_seconds_bucket{@,` + publishing + `}[$__rate_interval])))`, "p99"}).above(0.1, 1),
				lines("Mean duration by route", Seconds, "Management calls that change an endpoint take 250 ms: their answer is a promise that no sender works by the old record any more.",
					Query{`sum by (route) (rate(sealpost_gateway_request_duration_seconds_sum{@}[$__rate_interval])) / clamp_min(sum by (route) (rate(sealpost_gateway_request_duration_seconds_count{@}[$__rate_interval])), 1e-9)`, "{{route}}"}),
				lines("Errors by route", Ratio, "Share of each route's requests that were answered 5xx.",
					Query{`sum by (route) (rate(sealpost_gateway_requests_total{@,code=~"5.."}[$__rate_interval])) / clamp_min(sum by (route) (rate(sealpost_gateway_requests_total{@}[$__rate_interval])), 1e-9)`, "{{route}}"}).above(0.001, 0.01),
				lines("Connections", Count, "Open connections of producers; beyond the limit of 16,384 they are refused.", Query{"sum by (instance) (sealpost_gateway_open_connections{@})", "{{instance}}"}),
			}},
			{Title: "Events", Panels: []Panel{
				lines("Events", EventsPerSec, "Accepted ones, and those answered again with their first answer because their idempotency key was known.",
					rate("sealpost_events_accepted_total", "accepted"), rate("sealpost_events_repeated_total", "repeated")),
				lines("Events refused, by code", EventsPerSec, "`unavailable` means not confirmed: Redis slow, away or nearly full. docs/API.md explains each code.", rate("sealpost_events_rejected_total", "{{code}}", "code")),
				lines("Deliveries per event", Count, "How many endpoints an accepted event goes to, on average.",
					Query{"sum(rate(sealpost_deliveries_accepted_total{@}[$__rate_interval])) / clamp_min(sum(rate(sealpost_events_accepted_total{@}[$__rate_interval])), 1e-9)", "fan-out"}),
			}},
			{Title: "Group commit", Panels: []Panel{
				lines("Flush, depth", Count, "Events that one flush stores together. It grows with the load and makes storing cheaper.",
					quantile("0.5", "sealpost_flush_events", "p50"), quantile("0.99", "sealpost_flush_events", "p99"), mean("sealpost_flush_events", "mean")),
				lines("Flush, duration", Seconds, "The round trips of one flush to Redis. Requests wait for one to two flushes.",
					quantile("0.5", "sealpost_flush_duration_seconds", "p50"), quantile("0.99", "sealpost_flush_duration_seconds", "p99")).above(0.1, 1),
				lines("Flushes", PerSecond, "How many groups are stored a second.", rate("sealpost_flush_duration_seconds_count", "{{instance}}", "instance")),
				lines("Events pending", Count, "Events that wait to be stored or are being stored, by gateway.", Query{"sum by (instance) (sealpost_publish_pending_events{@})", "{{instance}}"}).above(5000, 15000),
				lines("Request bodies held", Bytes, "Memory of the bodies under way; at 128 MiB further ones are answered 503.", Query{"sum by (instance) (sealpost_gateway_body_bytes{@})", "{{instance}}"}).above(64<<20, 112<<20),
				lines("Connections refused", PerSecond, "Connections beyond the limit, a second: more gateways are needed, or a producer leaks connections.", rate("sealpost_gateway_connections_refused_total", "refused")).above(0.1, 10),
			}},
			{Title: "API keys", Panels: []Panel{
				lines("Key look-ups", PerSecond, "Look-ups of well-formed keys. A hit costs nothing; a miss waits for Redis.", rate("sealpost_gateway_key_lookups_total", "{{result}}", "result")),
				lines("Key cache", Ratio, "Share of look-ups that need not ask Redis. Keys are believed for a second, so it grows with the requests per key.",
					Query{`sum(rate(sealpost_gateway_key_lookups_total{@,result="hit"}[$__rate_interval])) / clamp_min(sum(rate(sealpost_gateway_key_lookups_total{@}[$__rate_interval])), 1e-9)`, "hits"}),
				lines("Refused for their key", RequestPerSec, "401: no valid key; 403: a scope is missing. A sudden rise is a key that was revoked or has expired, or somebody who tries keys.",
					rate(`sealpost_gateway_requests_total{@,code=~"401|403"}`, "{{code}}", "code")),
			}},
			process("gateway"),
		},
	}
}
