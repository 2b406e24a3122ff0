// Package publish turns accepted events into deliveries that are stored.
//
// It is a group commit. Requests that arrive while a flush is in flight gather,
// and the next flush takes all of them. At low load no timer holds anything back and
// an event never waits: its own caller flushes it. Where flushes are deep they begin a
// little later, so that they become fewer. A flush is:
//
//	requests ──▶ Begin ──▶ snapshots ──▶ Enqueue ──▶ Finish ──▶ answers
//	             version    read again    deliveries  idempotency
//	             tokens,    where an      of all      keys: first
//	             idempotency organization requests;   answer kept
//	             keys       has moved     Park: those
//	                                      for backlogs
//
// A snapshot is an organization's event types and who subscribes to them. It is
// validated, not trusted: every flush reads the version token that every change
// of an endpoint renews, and reads the endpoints again when it has moved. So a
// new endpoint gets the very next event and a deleted one gets none. It also says
// whose deliveries go straight to a backlog: those of endpoints with limits that
// hold over all senders, and of disabled ones that hold. They are parked in the
// order in which their events were accepted, which is what makes a strict order
// possible.
//
// An organization that publishes more than its share (shares.go) has flushes of its
// own, and its deliveries are Bulk: others wait neither here nor in the queues for
// what it floods.
//
// Where the queue can, it keeps the answers of idempotency keys together with the
// deliveries (keyed.go), so that a crash between Enqueue and Finish leaves no event
// that its own key knows nothing of. Finish is for the others: what needs several
// bundles, or backlogs, is stored with a note of each part, and who takes such a key
// over stores only the rest.
//
// A request is answered once all its deliveries are confirmed. When the requests
// of a flush make very many, Enqueue and Finish run once for each part of them, so
// that a wide fan-out is not what all others depend on. If that has not
// happened within the budget the answer is CodeUnavailable, which means "not
// confirmed", not "did not happen": a request whose flush had not begun by then
// is taken out and did not happen, one whose flush had begun may have.
// Repeating it with the same idempotency key or event id is safe.
package publish
