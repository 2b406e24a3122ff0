// Package queue carries deliveries from those who accept or retry them to those
// who send them, through Redis. It is the only importer of asynq, and the owner
// of asynq's keys and of the bundles (keys.go).
//
//	Producer.Enqueue ──▶ bundles of ≤ 384 deliveries, one asynq task each ──▶ deliver-00 … deliver-NN ─┐
//	                     those of an organization above its share ────────────────▶ bulk-00 ─────────────────┤
//	Producer.Retry   ──▶ one task per delivery, run when it is due ─────────▶ retry-00 ────────────────┤
//	Producer.Defer   ──▶ a fresh bundle, at once (deliver) or later (retry) ──────────────────────────┤
//	                                                                                                   ▼
//	Handler ◀── bundle, without what an earlier run settled ◀── Consumer: one asynq server per queue
//
// # What is guaranteed
//
// A delivery whose storing was confirmed is handed to a Handler until a Handler
// returned nil for its bundle. It may be handed out again: after a crash, a lost
// lease or a failed Redis call. Nothing spans two keys atomically except inside
// asynq's scripts, so every sequence is ordered such that stopping between two
// steps repeats a delivery and never loses one:
//
//  1. The blob of a bundle is written before its task, in one round trip on one
//     connection. A task without blob can thus only arise when the blob's write
//     was refused; the producer sees that and does not confirm.
//  2. A round trip whose reply was lost is sent again under the same id. The
//     blob is written with NX and asynq refuses a task id that it holds, so the
//     repetition changes nothing, and a conflict means success. Had the task run
//     to its end meanwhile, the repeated one finds the bitmap of step 3 complete
//     and ends silently.
//  3. A settled delivery is noted in the bundle's bitmap after its attempt was
//     recorded, and the blob goes only when all are noted (redisstore does both,
//     told where by core.Mark). The task ends after that. A second run skips what
//     is noted.
//  4. The counters and the archive of asynq decide nothing: no task can exhaust
//     its retries, a failed run costs none, and what cannot be decoded is put
//     back, not dropped.
//
// An answer to an idempotency key is stored inside asynq's script, so to speak
// (noting.go): it and the task are there together or not at all. Where several bundles
// hold what the answer speaks of, each is stored with a note of its part, so that who
// repeats the request stores only the rest. That is not so in a Redis Cluster.
//
// # Ids
//
// A bundle's id is drawn once (UUIDv7) and is also its task's id. A retry's is
// "<delivery>:<attempts made>": repeating the settlement of an attempt cannot
// make a second retry, and attempt n+1 never conflicts with the task that is
// still running attempt n.
package queue
