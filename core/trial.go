package core

import "time"

// EventTest is the type of the event that tests an endpoint. Nobody can publish it or
// subscribe to it.
const EventTest = SystemPrefix + "test"

// AddressClass says what kind of address a request went to, without naming it.
type AddressClass string

// The classes. What is not public can be reached only if the operator permits it.
const (
	AddressPublic    AddressClass = "public"
	AddressPrivate   AddressClass = "private" // every other that is not public: shared by customers of a carrier, too
	AddressLoopback  AddressClass = "loopback"
	AddressLinkLocal AddressClass = "link_local"
)

// Trial is what happened when an endpoint was tested. Of one whose address may not be
// reached it says no more than that.
type Trial struct {
	ResponseStatus int          // HTTP status; 0: no response
	Reason         Reason       // "" when delivered
	Address        AddressClass // "": no connection was made

	// How long the phases took; 0 for those that did not happen.
	DNS, Connect, TLS, FirstByte, Total time.Duration
}
