package core

import "time"

// IdempotencyLifetime is how long an idempotency key answers the first answer
// again.
const IdempotencyLifetime = 24 * time.Hour

// ReservationLease is how long a request that reserved an idempotency key has
// to finish before another request with the same body may take over.
const ReservationLease = 5 * time.Second

// Reservation is a claim on an idempotency key of an organization.
type Reservation struct {
	Organization string
	Key          string   // as the producer gave it, with a prefix for its kind; hashed before it is stored
	BodyHash     [32]byte // SHA-256 of what must be the same when the key is used again
	Owner        string   // random token of the request that holds the claim
	EventID      string   // the event id that will be used; for a batch the base of its event ids
	Answer       []byte   // the answer to give again; set when the claim is finished
}

// Keyed is a reservation and those of some deliveries that are stored under it, from
// From to before To. What stores all of them at once keeps its Answer with them, if it
// has one. What stores some of them keeps a note of those.
type Keyed struct {
	Reservation
	From, To int
	Noted    bool // the answer is kept; set by who stored the deliveries
}

// Note returns the note to be kept by what stores those of ds that are from from to
// before to; nil: it stores none of the reservation's.
func (k *Keyed) Note(ds []Delivery, from, to int) []byte {
	from, to = max(from, k.From), min(to, k.To)
	if from >= to {
		return nil
	}
	return AppendNote(nil, ds[from:to])
}

// Whole reports whether what stores the deliveries from from to before to stores all
// that the answer waits for.
func (k *Keyed) Whole(from, to int) bool {
	return k.Answer != nil && from <= k.From && k.To <= to
}

// ReservationState is what became of a claim.
type ReservationState struct {
	Kind       ReservationKind
	EventID    string        // with TakenOver: the event id of the first holder, to be used instead
	Stored     Stored        // with TakenOver: what earlier holders have stored, not to be stored again
	Answer     []byte        // with Answered: the first answer
	RetryAfter time.Duration // with Pending: what is left of the first holder's lease
}

// ReservationKind tells the states of a claim apart.
type ReservationKind int

// The kinds.
const (
	ReservationGranted   ReservationKind = iota + 1 // the key is new: go on
	ReservationTakenOver                            // its first holder's lease is over: go on with its event id
	ReservationAnswered                             // done before: give the same answer again
	ReservationPending                              // its first holder is still at work
	ReservationMismatch                             // used before with another body
)
