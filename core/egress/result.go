package egress

import (
	"errors"
	"net/netip"
	"time"

	"github.com/sealpost/sealpost/core"
)

// Message is what Compose fills in. Header keeps its capacity from one call to
// the next; Compose appends to it.
type Message struct {
	Header []byte // whole lines, "name: value\r\n"; sent after the client's own
	Body   []byte // not changed, and not kept after Post returns
}

// Compose writes a message. It is called on a ready connection, immediately
// before the first byte of the request is written, and once more for the one
// repetition on a fresh connection. An error ends the attempt there, with nothing
// written on that connection.
type Compose func(m *Message) error

// Result says what became of a Post. There are three kinds:
//   - Status above 0: a response came; Reason and Err are empty.
//   - Status 0 and a Reason: the attempt failed; Err has details.
//   - Status 0 and no Reason: this was no attempt, and says nothing about the
//     endpoint. Err is Compose's error as it was, or wraps ErrBusy, ErrClosed or
//     the cause of the context's cancellation.
type Result struct {
	Status     int         // HTTP status, 100 to 999
	RetryAfter string      // the header's value; "" if there was none
	Disable    bool        // the response said `webhook-delivery: disable`
	Reason     core.Reason // why there is no response
	Err        error       // details for logs; names hosts and addresses, never a path or query
	Started    bool        // a first request byte was, or may have been, written
	Reused     bool        // the answer came, or failed to, on a connection that was used before
	Resent     bool        // a reused connection turned out to be closed; sent again on a fresh one
	Remote     netip.Addr  // that was connected to; invalid if no connection was made, or none anew

	// How long the phases took; 0 for those that did not happen. FirstByte runs
	// from the first byte of the request to the first byte of the response,
	// Total from the call of Post to its return.
	DNS, Connect, TLS, FirstByte, Total time.Duration
}

// What Post can end with when it was no attempt.
var (
	// ErrBusy says that until the deadline every connection that the host may
	// have was in use by other requests.
	ErrBusy = errors.New("egress: no connection to the host became free")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("egress: client is closed")
)

// What an attempt can fail with, apart from errors of the system.
var (
	errBlocked     = errors.New("address may not be reached")
	errTimeout     = errors.New("deadline passed before the request was written")
	errPlainHTTP   = errors.New("http without TLS is not allowed")
	errHeaderLines = errors.New("egress: message header does not consist of whole lines")
	errTooLong     = errors.New("response is longer than will be read")
)
