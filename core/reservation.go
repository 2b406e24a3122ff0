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

// Keyed is a reservation whose answer speaks of deliveries that are stored
// together, of those from From to before To.
type Keyed struct {
	Reservation
	From, To int
	Noted    bool // the answer stands since these deliveries do; set by who stored them
}

// ReservationState is what became of a claim.
type ReservationState struct {
	Kind       ReservationKind
	EventID    string        // with TakenOver: the event id of the first holder, to be used instead
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
