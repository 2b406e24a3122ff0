package core

import "time"

// KeptLetter is a dead letter as it is kept.
type KeptLetter struct {
	Entry  string    // names its place: an endpoint's dead letters are kept in the order in which they died
	DiedAt time.Time // when it became one, by the clock of Redis
	Size   int       // of its event's body, in bytes
	DeadLetter
}

// LetterRange names some of an endpoint's dead letters by their entries. The zero
// LetterRange is all.
type LetterRange struct {
	After string    // those behind this entry; "": from Since
	Since time.Time // that died then or later; zero: from the oldest; counts while After is ""
	Last  string    // up to and with this entry; "": to the newest
}

// RecoveryState says how far a recovery is.
type RecoveryState string

// The states.
const (
	RecoveryRunning RecoveryState = "running"
	RecoveryDone    RecoveryState = "done"
	RecoveryStopped RecoveryState = "stopped" // the endpoint can take nothing any more
)

// RecoveryLifetime is how long a recovery is known after its last step.
const RecoveryLifetime = 7 * 24 * time.Hour

// Recovery is a job that sends an endpoint's dead letters again, step by step. Its
// JSON form is the record in Redis, not the API's.
type Recovery struct {
	ID        string        `json:"-"`
	Endpoint  EndpointRef   `json:"-"`
	Version   string        `json:"-"` // changes with every step, so that two runners cannot both make one
	State     RecoveryState `json:"state"`
	Reason    Reason        `json:"reason,omitempty"` // why it was stopped
	Since     time.Time     `json:"since"`            // dead letters that died then or later; zero: from the oldest
	Until     time.Time     `json:"until"`            // and before then; zero: all there were at the beginning
	Last      string        `json:"last"`             // entry of the last dead letter
	After     string        `json:"after,omitempty"`  // entry of the last one that was dealt with; "": none was
	Total     int           `json:"total"`            // dead letters there were at the beginning
	Replayed  int           `json:"replayed"`         // of these, sent again
	Skipped   int           `json:"skipped"`          // of these, left where they are: too old, or not readable
	CreatedAt time.Time     `json:"created_at"`
	EndedAt   time.Time     `json:"ended_at"` // zero: it is running
}

// NewRecoveryID returns a fresh id of a recovery, `rec_` and 26 characters that sort
// by now.
func NewRecoveryID(now time.Time) string { return sortableID(recoveryIDPrefix, now) }

const recoveryIDPrefix = "rec_"

// ValidRecoveryID reports whether s has the form of the ids that recoveries get.
func ValidRecoveryID(s string) bool {
	_, ok := PackID(recoveryIDPrefix, s)
	return ok
}

// Replayable returns nil, or a CodeConflict error if nothing may be sent to the
// endpoint again: what waits for it is given up while it is disabled.
func (e *Endpoint) Replayable() error {
	if !e.Takes() {
		return &Error{Code: CodeConflict, Detail: "the endpoint is disabled and holds nothing meanwhile: enable it first"}
	}
	return nil
}

// Replays reports whether l's delivery can be made again at now: its event was read,
// and is not older than it may grow.
func (e *Endpoint) Replays(l *KeptLetter, now time.Time) bool {
	if l.Delivery.Event == nil {
		return false
	}
	limit := l.Delivery.Event.TooOld(e)
	return limit.IsZero() || now.Before(limit)
}

// ReplayParking returns what puts fresh deliveries of letters into the endpoint's
// backlog; they are parallel to letters, all of which the endpoint Replays.
func (e *Endpoint) ReplayParking(letters []*KeptLetter, now time.Time) Parking {
	p := Parking{Endpoint: e.Ref(), Deliveries: make([]Delivery, len(letters))}
	if e.Holds() {
		p.Due = now.Add(HeldLook)
	}
	for i, l := range letters {
		p.Deliveries[i] = l.Delivery.Replay(now)
	}
	return p
}
