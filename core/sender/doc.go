// Package sender takes bundles from the queue and turns each of their deliveries
// into an attempt, a retry, a dead letter or nothing more.
//
// # The way of a delivery
//
//	bundle handed over by the queue
//	      │
//	      ▼
//	  pending ──── drain, or the bundle's time is up ─────────▶ put back (fresh bundle)
//	      │ a slot of the process and one of the endpoint
//	      ▼
//	  record fresh? ── no such endpoint ──────────────────────▶ discarded
//	      │         └─ disabled, or past its time to give up ─▶ dead letter
//	      ▼
//	  connect: DNS, TCP, TLS ────────────────────────┐
//	      │                                          │
//	      ▼                                          │
//	  compose: record still fresh? else read again   │
//	      │  ├─ endpoint changed ─▶ begin anew       │
//	      │  └─ key mismatch ─────▶ held: put back,  │
//	      │                         due in 30 s      │
//	      ▼ the first byte: now it is an attempt     ▼ failed before: an attempt as well
//	  response or failure ── 2xx ─────────────────────────────▶ delivered
//	                       ├─ 410 ── endpoint disabled ───────▶ dead letter
//	                       │  (a 2xx may ask to disable it too)
//	                       ├─ else, attempts and time left ───▶ retry task
//	                       ├─ else ───────────────────────────▶ dead letter
//	                       └─ failed, and the endpoint was
//	                          deleted meanwhile ──────────────▶ discarded
//
// Every arrow to the right ends the delivery's part in this bundle. It is settled
// when that is stored.
//
// # Settling
//
// A crash at any line may repeat a request, never lose one, because of the order
// in which results are stored: (1) what the delivery becomes: its retry task,
// its dead letter, its place in a fresh bundle; (2) its row in the attempt log;
// (3) its mark in the bundle's bitmap; and only when all of a bundle is marked
// (4) the end of the task. Each write may be repeated: (1) is named after the
// delivery and its count of attempts, (2) is told that it may be a repetition,
// (3) is the same bit. What is put back has no such name, so a repeated (1) may
// repeat its requests.
//
// Results are settled in groups while further attempts run, for as long as Redis
// needs within a minute, and also after the lease of the task is lost: another
// sender may run the bundle again by then, and skips what it finds marked.
//
// # Who runs what
//
// The goroutine that calls Handle owns the bundle's state and is its event loop.
// It starts one goroutine per attempt in flight and at most one that settles,
// and waits for all of them. A bundle of one delivery needs none: the attempt
// runs in the loop. Bundles begin in order, and only so many that the slots are
// kept busy (admission). Attempts are bounded in the process (Concurrency) and per
// endpoint (PerEndpoint). Nobody blocks while an endpoint is full: its
// deliveries stay in the bundle, and the limiter hands slots over in turn.
//
// # Endpoint records
//
// No request begins under a record that is older than core.RecordLifetime,
// counted from the start of its read, and the API answers a deletion, a disabling
// or a rotation only when more than that has passed. The check
// is made on a ready connection immediately before the first byte.
package sender
