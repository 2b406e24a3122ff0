package core

// EventTrail is what the logs know about the deliveries of one event at one endpoint.
type EventTrail struct {
	Endpoint string    // id
	Attempts []Attempt // newest first
	Dead     []string  // ids of the deliveries that are among the dead letters
}
