package publish

import (
	"time"

	"github.com/sealpost/sealpost/core"
)

// Item is one event of a request, or the reason why it is none.
type Item struct {
	ID     string        // chosen by the producer; "": one is made up
	Type   string        // event type
	Body   []byte        // what receivers will get, see Freeze
	MaxAge time.Duration // of the event, in whole milliseconds; 0: none
	Hash   [32]byte      // SHA-256 of the event as it was sent; needed where the ID is an idempotency key
	Err    *core.Error   // a bad event: answered in its place, the rest is ignored
}

// Request is what one API call publishes.
type Request struct {
	Organization string
	Items        []Item    // exactly one unless Batch
	Batch        bool      // answered as a batch
	Key          string    // idempotency key of the whole request; "": each item's ID is one, if it has any
	BodyHash     [32]byte  // of what must be the same when Key is used again
	Arrived      time.Time // when the budget began; also the time of acceptance

	RequestID string       // for logs
	Origin    *core.Origin // of all events; nil: nothing to follow them by

	Allowance Allowance // set by Publish: what is left of the quota, if there is one and it could be asked
}

// prefixes of reservation keys: a header and an event id may be equal.
const (
	headerClaim = "key:"
	idClaim     = "id:"
)

// Freeze returns the body that receivers get: the members type, timestamp and
// data, without spaces between them. timestamp is a JSON string as it was
// given, or nil for acceptedAt. data stands in it byte for byte. eventType must
// need no escaping in JSON, as no valid event type does.
func Freeze(eventType string, timestamp, data []byte, acceptedAt time.Time) []byte {
	const (
		opening  = `{"type":"`
		middle   = `","timestamp":`
		last     = `,"data":`
		layout   = `"2006-01-02T15:04:05.000Z"`
		skeleton = len(opening) + len(middle) + len(last) + len(`}`)
	)
	size := skeleton + len(eventType) + len(data) + len(timestamp)
	if timestamp == nil {
		size += len(layout)
	}
	body := make([]byte, 0, size)
	body = append(body, opening...)
	body = append(body, eventType...)
	body = append(body, middle...)
	if timestamp != nil {
		body = append(body, timestamp...)
	} else {
		body = acceptedAt.UTC().AppendFormat(body, layout)
	}
	body = append(body, last...)
	body = append(body, data...)
	return append(body, '}')
}
