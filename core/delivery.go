package core

import "time"

// Event is what a producer posted, frozen when it was accepted.
type Event struct {
	ID         string        // the webhook-id: the same on every attempt and replay
	Type       string        // one of the catalogue's event types
	Body       []byte        // the exact bytes that are signed and sent
	AcceptedAt time.Time     // millisecond precision survives Redis
	MaxAge     time.Duration // no attempt begins when the event is older, see TooOld; whole milliseconds; 0: no limit of its own
	Origin     *Origin       // shared by the events of one request, read-only; nil: nothing to follow
	Index      int           // place among those that share its idempotency key, from 0; known only until it is stored
}

// Origin is by what an event can be followed back through logs and traces.
type Origin struct {
	RequestID string        // of the request that brought it, if its caller chose one; else ""
	Trace     *TraceContext // nil: no trace
}

// TraceContext returns the event's place in its trace, nil if it has none.
func (e *Event) TraceContext() *TraceContext {
	if e.Origin == nil {
		return nil
	}
	return e.Origin.Trace
}

// RequestID returns the request id that the event's producer chose, or "".
func (e *Event) RequestID() string {
	if e.Origin == nil {
		return ""
	}
	return e.Origin.RequestID
}

// Delivery is one event for one endpoint: the unit of work.
type Delivery struct {
	ID           string
	Organization string
	Endpoint     string    // id
	Event        *Event    // shared by the deliveries of one event; read-only
	Attempts     int       // attempts already made; 0 for a fresh delivery
	Due          time.Time // never sent before; zero: at once; millisecond precision
	Bulk         bool      // of an organization above its share: travels in the bulk queue, and yields to others; forgotten by a retry
}

// CreatedAt returns when the delivery was made, as its id tells: when its event was
// accepted, or replayed. The time that it has counts from then.
func (d *Delivery) CreatedAt() time.Time {
	if raw, ok := PackID(DeliveryIDPrefix, d.ID); ok {
		if at := packedTime(raw); at.After(d.Event.AcceptedAt) {
			return at
		}
	}
	return d.Event.AcceptedAt
}

// Replay returns a new delivery of the same event to the same endpoint, as if it had
// never been tried.
func (d *Delivery) Replay(now time.Time) Delivery {
	return Delivery{ID: NewDeliveryID(now), Organization: d.Organization, Endpoint: d.Endpoint, Event: d.Event}
}

// Ref returns the name of the delivery's endpoint.
func (d *Delivery) Ref() EndpointRef {
	return EndpointRef{Organization: d.Organization, ID: d.Endpoint}
}

// Bundle is what one task carries: deliveries that were accepted together.
type Bundle struct {
	ID         string
	Queue      string // the queue that the task came from
	Bulk       bool   // it is the bulk queue, as each of the deliveries says
	Deliveries []Delivery
	Settled    []bool // parallel to Deliveries: settled by an earlier run, to be skipped
	Mark       Mark   // where settled deliveries are noted; pass it on with Indexes filled in
	Ended      bool   // the last mark is written, and so the task has ended: for the handler to say
}

// Mark notes in Redis which deliveries of a bundle are settled, so that a second
// run of the same bundle skips them. core/queue fills it in and owns the keys;
// redisstore writes it in the same pipeline as the attempts, after them.
type Mark struct {
	DoneKey string        // bitmap: bit i stands for delivery i
	BlobKey string        // the bundle's blob; "" when the bundle rides in its task
	Size    int           // deliveries in the bundle
	TTL     time.Duration // how long the bitmap outlives the bundle
	Indexes []int         // deliveries settled now
	All     bool          // with these, every delivery of the bundle is settled: the blob goes
	End     Script        // run behind the mark when All: ends the bundle's task, and returns 0 if it does not; no Source: nothing is run
}

// Script is a Lua script for Redis, with what it is called with. All of its keys
// are of one slot.
type Script struct {
	Source string
	Keys   []string
	Args   []any
}
