package dashboards

func redisAndQueue() Dashboard {
	return Dashboard{
		UID: "sealpost-redis", Title: "Sealpost / Redis & queue",
		Description: "What waits, who works on it, how Redis is doing.",
		Rows: []Row{
			{Title: "At a glance", Panels: []Panel{
				stat("Tasks waiting", Count, "Tasks that can run and do not yet. A task is a bundle of up to 384 deliveries.", `sum(max by (queue) (sealpost_queue_tasks{@,state="pending"}))`).above(1000, 10000),
				stat("Oldest waiting task", Seconds, "How long the oldest task that can run has been waiting.", `max(sealpost_queue_oldest_pending_seconds{@})`).above(10, 60),
				stat("Redis memory", Ratio, "Memory in use, of the limit. From 75 % on publishing is refused, so that senders can drain Redis.",
					`max(sealpost_redis_memory_used_bytes{@} / (sealpost_redis_memory_max_bytes{@} > 0))`).above(0.6, 0.75),
				stat("Archived tasks", Count, "Tasks that asynq gave up. It must be 0: nobody looks at them.", `sum(max by (queue) (sealpost_queue_tasks{@,state="archived"}))`).above(1, 1),
				stat("Consumers", Count, "Consumers with a fresh heartbeat; each sender has one for each of the five queues. 0: nothing is delivered.", `max(sealpost_queue_consumers{@})`).below(5, 1),
				stat("Redis errors", PerSecond, "Operations that Redis did not confirm, a second.", rate("sealpost_redis_errors_total", "").Expr).above(0.1, 10),
			}},
			{Title: "Queue", Panels: []Panel{
				lines("Tasks by state", Count, "`scheduled` are retries that wait for their time, `retry` is what went back for some seconds, `active` is running.",
					Query{`sum by (state) (max by (queue, state) (sealpost_queue_tasks{@}))`, "{{state}}"}),
				lines("Tasks waiting, by queue", Count, "Tasks that can run. New bundles go to the deliver queues in turn; one that stands out is not being consumed.",
					Query{`max by (queue) (sealpost_queue_tasks{@,state="pending"})`, "{{queue}}"}).above(1000, 10000),
				lines("Oldest waiting task, by queue", Seconds, "Its age is what new events wait at least.", Query{`max by (queue) (sealpost_queue_oldest_pending_seconds{@})`, "{{queue}}"}).above(10, 60),
				lines("Overdue tasks", Seconds, "How long the oldest task whose time has come has not been taken up. It stays at some seconds; a climb means that no sender runs.",
					Query{`max by (queue) (sealpost_queue_overdue_seconds{@})`, "{{queue}}"}).above(30, 120),
				lines("Leases that ran out", Seconds, "How long a running task has been without its sender. Another one takes it over within some seconds.",
					Query{`max by (queue) (sealpost_queue_lease_expired_seconds{@})`, "{{queue}}"}).above(120, 300),
				lines("Bundles put back, by reason", PerSecond, "Runs that ended with the bundle back in its queue. `stopping` is a sender's shutdown.", rate("sealpost_bundles_put_back_total", "{{reason}}", "reason")),
			}},
			{Title: "Bundles", Panels: []Panel{
				lines("Bundle, fill", Count, "Deliveries that travel in one task; 384 at most. Retries travel alone.",
					quantile("0.5", "sealpost_queue_bundle_deliveries", "p50"), quantile("0.99", "sealpost_queue_bundle_deliveries", "p99"), mean("sealpost_queue_bundle_deliveries", "mean")),
				lines("Bundle, size", Bytes, "Size in Redis, compressed where that pays.",
					quantile("0.5", "sealpost_queue_bundle_bytes", "p50"), quantile("0.99", "sealpost_queue_bundle_bytes", "p99"), mean("sealpost_queue_bundle_bytes", "mean")),
				lines("Compression", Ratio, "Stored bytes, of the bytes before compression.",
					Query{"sum(rate(sealpost_queue_bundle_bytes_sum{@}[$__rate_interval])) / clamp_min(sum(rate(sealpost_queue_bundle_uncompressed_bytes_total{@}[$__rate_interval])), 1e-9)", "stored"}),
				lines("Bundles stored", PerSecond, "By gateways for new events, by senders for retries.", rate("sealpost_queue_bundles_stored_total", "{{job}}", "job")),
				lines("Bytes stored", BytesPerSec, "What is written into the queues, and what that was before compression.",
					rate("sealpost_queue_bundle_bytes_sum", "stored"), rate("sealpost_queue_bundle_uncompressed_bytes_total", "before compression")),
				lines("Trouble with bundles", PerSecond, "Sent again because no confirmation came; given up without one; repaired; run again although settled; unreadable; and lost, which is always an alarm.",
					rate("sealpost_queue_resends_total", "sent again"), rate("sealpost_queue_unconfirmed_total", "not confirmed"), rate("sealpost_queue_repairs_total", "repaired: {{kind}}", "kind"),
					rate("sealpost_bundles_already_settled_total", "settled before"), rate("sealpost_bundles_undecodable_total", "unreadable"), rate("sealpost_bundles_lost_total", "lost")),
			}},
			{Title: "Redis", Panels: []Panel{
				lines("Operations", PerSecond, "`begin` is a flush's first round trip, `enqueue` a bundle's, `queue` all of asynq's; the others are the store's.", rate("sealpost_redis_operation_duration_seconds_count", "{{op}}", "op")),
				lines("Duration of operations, p99", Seconds, "With the wait for a connection, of operations that happened. All rise together: Redis or its disk is slow. One rises: look at what it does.",
					Query{`histogram_quantile(0.99, sum by (le, op) (rate(sealpost_redis_operation_duration_seconds_bucket{@}[$__rate_interval]))) >= 0`, "{{op}}"}).above(0.05, 0.5),
				lines("Duration of operations, mean", Seconds, "The same on average.",
					Query{`sum by (op) (rate(sealpost_redis_operation_duration_seconds_sum{@}[$__rate_interval])) / (sum by (op) (rate(sealpost_redis_operation_duration_seconds_count{@}[$__rate_interval])) > 0)`, "{{op}}"}),
				lines("Errors by operation", PerSecond, "Operations that Redis did not confirm.", rate("sealpost_redis_errors_total", "{{op}}", "op")).above(0.1, 10),
				lines("Memory", Bytes, "In use, the limit, and the 75 % from which publishing is refused.",
					Query{"max(sealpost_redis_memory_used_bytes{@})", "used"}, Query{"max(sealpost_redis_memory_max_bytes{@})", "limit"}, Query{"0.75 * max(sealpost_redis_memory_max_bytes{@})", "publishing refused from here"}),
				lines("Clocks", Seconds, "Each machine's clock minus that of Redis. Beyond 25 s between senders, running tasks are taken from each other.",
					Query{"sealpost_redis_clock_ahead_seconds{@}", "{{instance}}"}).signed().above(5, 25),
			}},
		},
	}
}
