// Package core holds the words of Sealpost: organizations, endpoints, events,
// deliveries, attempts, secrets, API keys and the errors an API caller can act
// on. It does no I/O and imports the standard library only; everything else
// depends on it, and it depends on nothing.
//
// An organization owns endpoints. A producer posts an event; for each matching
// endpoint the event becomes a delivery; a delivery is tried by attempts until
// it is delivered, given up (a dead letter) or discarded. Deliveries accepted
// together travel through Redis in one bundle.
package core

// Version is the release of this program. It stands in the user-agent of every
// delivery and in the build_info metric.
const Version = "0.1.0"
