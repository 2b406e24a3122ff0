package core

import (
	"math"
	"time"
)

// Quota is how many events each organization may publish: a token bucket that
// all gateways share. The zero value is no quota.
type Quota struct {
	Rate  float64 // events a second that the bucket gains; 0: no quota
	Burst int     // events that it holds, so the most that can be published at once
}

// Limits reports whether there is a quota.
func (q Quota) Limits() bool { return q.Rate > 0 }

// Wait returns how long the bucket takes to gain events, which may be a
// fraction. It is rounded up to whole seconds, in which the API speaks of it.
func (q Quota) Wait(events float64) time.Duration {
	return time.Duration(math.Ceil(max(events, 0)/q.Rate)) * time.Second
}

// Draws are the requests that count against their organizations' quotas
// together. Each is granted or refused as a whole, in order.
type Draws struct {
	Quota    Quota
	Requests []Draw
}

// Draw is what one request takes from its organization's quota.
type Draw struct {
	Organization string
	Events       int           // that count in any case
	Claims       []Reservation // of the same organization: a claim that is another request's counts nothing
	PerClaim     int           // events that each of the others stands for

	Cost    int     // found out: the events that count
	Granted bool    // found out: the quota had room for them
	Left    float64 // found out: what the quota held after all draws of the organization; at least 0
}
