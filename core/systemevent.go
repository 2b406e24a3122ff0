package core

import (
	"slices"
	"strings"
)

// SystemPrefix begins the types of Sealpost's own events. Producers cannot
// publish them, endpoints can subscribe to them.
const SystemPrefix = "sealpost."

// The types of Sealpost's own events.
const (
	EventEndpointDisabled = SystemPrefix + "endpoint.disabled" // nothing is sent to an endpoint any more
	EventEndpointEnabled  = SystemPrefix + "endpoint.enabled"  // it is sent to again
	EventEndpointFailing  = SystemPrefix + "endpoint.failing"  // it will be disabled if it goes on failing
)

// SystemEventTypes lists the types of Sealpost's own events.
func SystemEventTypes() EventTypes {
	return EventTypes{EventEndpointDisabled, EventEndpointEnabled, EventEndpointFailing}
}

// SystemEventType reports whether t can only be a type of Sealpost's own events.
func SystemEventType(t string) bool { return strings.HasPrefix(t, SystemPrefix) }

// WithSystem returns the catalogue that endpoints may subscribe to: ts, and the
// types of Sealpost's own events.
func (ts EventTypes) WithSystem() EventTypes {
	return slices.Concat(ts, SystemEventTypes())
}
