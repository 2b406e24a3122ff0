package pace

import "time"

// Result is what one attempt told about its endpoint.
type Result struct {
	Began, Ended time.Time
	Failed       bool   // anything but 2xx
	Busy         bool   // 429, 502, 503 or 504: it asks to go slower
	Delivery     string // id
}

// took returns how long the attempt took.
func (r *Result) took() time.Duration { return r.Ended.Sub(r.Began) }

// bad reports whether the endpoint did not do what was asked.
func (r *Result) bad() bool { return r.Failed || r.Busy }
