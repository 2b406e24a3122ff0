package core

import "time"

// Parking is what goes to the backlog of one endpoint, and why.
type Parking struct {
	Endpoint   EndpointRef
	Condition  Condition  // noted unless a graver one is; zero: nothing is noted
	Failing    time.Time  // noted as Failing.Since unless there is one; zero: nothing is noted
	Due        time.Time  // when the backlog has to be looked at, unless that is settled already; zero: at once
	Deliveries []Delivery // in their order; none: only the condition is noted
	Keyed      []Keyed    // under which they are stored, in their order; answers are left to the caller
}

// Parked is what a Parking led to.
type Parked struct {
	Stored bool // the deliveries are in the backlog; told beside an error too
	Excess int  // deliveries by which the backlog is above its bounds now: the oldest have to leave
}

// Claim is the right to work an endpoint's backlog off, held by one drain at a
// time until its lease ends. Keep it with Hold, end it with a Release.
type Claim struct {
	Endpoint  EndpointRef
	Owner     string // random; names the claim
	Condition Condition
}

// ClaimLease is how long a claim lasts without being held again: then another
// drain takes over what a killed one has left.
const ClaimLease = 15 * time.Second

// Waiting is one delivery of a backlog.
type Waiting struct {
	Entry    string // names its place in the backlog
	Size     int    // bytes that it takes there
	Delivery Delivery
}

// Release ends a claim.
type Release struct {
	Claim     Claim     // its Condition is noted, whatever there is; zero: none any more
	Due       time.Time // when the backlog has to be looked at next; zero: at once
	OnlyEmpty bool      // give up the claim only if nothing waits
}

// Drained names deliveries of a backlog that are settled and leave it.
type Drained struct {
	Endpoint EndpointRef
	Entries  []Waiting // only Entry and Size count
}

// BacklogOverview is how much waits in all backlogs.
type BacklogOverview struct {
	Endpoints  int           // that have a backlog
	Claimed    int           // of them: a drain works it off, or was killed within the last ClaimLease
	Deliveries int64         // in all backlogs
	Bytes      int64         // that they take
	Overdue    time.Duration // by how much the drain that is due first is late; 0: none is
	Conditions int           // endpoints with a condition
	ByState    map[State]int // of those; empty where there are too many to look at
}
