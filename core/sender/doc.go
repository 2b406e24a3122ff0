// Package sender takes bundles from the queue and turns each of their deliveries
// into an attempt, a retry, a dead letter or nothing more; deliveries that must not
// be sent now wait in the backlogs of their endpoints, which it works off.
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
//	      │         ├─ disabled and not held, or too late ────▶ dead letter
//	      │         └─ disabled, limited over all senders, or
//	      │            its condition says so ─────────────────▶ backlog
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
//	                       ├─ else, its circuit being open ───▶ backlog
//	                       ├─ else, attempts and time left ───▶ retry task
//	                       ├─ else ───────────────────────────▶ dead letter
//	                       └─ failed, and the endpoint was
//	                          deleted meanwhile ──────────────▶ discarded
//
// Every arrow to the right ends the delivery's part in this bundle. It is settled
// when that is stored.
//
// # Backlogs
//
// What an attempt tells about its endpoint is judged by a circuit of this sender
// (core/pace) and, when it is news, noted in Redis for all: the endpoint is failing,
// paused, throttled or slow. From then on its deliveries are parked, at the cost of
// one command and no attempt. Redis knows which backlogs have to be looked at and
// when; Run claims those that are due, for 15 seconds at a time, and starts a drain
// for each. A drain of a failing endpoint sends one probe; of any other it sends as
// much as its pace allows, oldest first. Meanwhile the others go on parking, so that
// the order stays. A claim ends only if nothing waits, atomically.
//
// A drain that is killed is followed by another when its claim has run out, and what
// it had in flight is sent again. So are drains that overlap: an entry leaves the
// backlog only after its row is written.
//
// # What takes long
//
// An attempt in a bundle that takes longer than 100 ms leaves its slot of the
// process and its place in the admission (overtime); attempts out of backlogs have
// places of their own. So the slots are there for what is quick.
//
// # Settling
//
// A crash at any line may repeat a request, never lose one, because of the order
// in which results are stored: (1) what the delivery becomes: its retry task,
// its dead letter, its place in a fresh bundle or in a backlog; (2) its row in the attempt log;
// (3) its mark in the bundle's bitmap; and only when all of a bundle is marked
// (4) the end of the task. Each write may be repeated: (1) is named after the
// delivery and its count of attempts, (2) is told that it may be a repetition,
// (3) is the same bit. What is put back has no such name, so a repeated (1) may
// repeat its requests.
//
// Results are settled in groups while further attempts run, for as long as Redis
// needs within a minute, and also after the lease of the task is lost: another
// sender may run the bundle again by then, and skips what it finds marked. Those of
// several bundles are written together: of bundles of one delivery where they come
// often (joint), of others while Redis is busy with what came before (convoy).
//
// # Who runs what
//
// The goroutine that calls Handle owns the bundle's state and is its event loop.
// It has a goroutine of the process's for each attempt in flight (crew) and at most
// one of its own that settles, and waits for what they do. A bundle of one delivery
// needs none: the attempt runs in the loop. Bundles begin in order, and only so many that the slots are
// kept busy (admission); bulk bundles have an admission of their own and leave
// slots to the others (slots). Attempts are bounded in the process (Concurrency) and per
// endpoint (PerEndpoint). Nobody blocks while an endpoint is full: its
// deliveries stay in the bundle, and the limiter hands slots over, to the oldest
// bundle all it wants before the next one gets any, to bulk bundles after the others.
//
// # Endpoint records
//
// No request begins under a record that is older than core.RecordLifetime,
// counted from the start of its read, and the API answers a deletion, a disabling
// or a rotation only when more than that has passed. The check
// is made on a ready connection immediately before the first byte.
package sender
