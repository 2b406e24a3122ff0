package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
)

// Defaults of Options.
const (
	DefaultMaxPayload      = 256 << 10 // bytes of one event's data
	DefaultMaxEndpoints    = 1000      // per organization
	DefaultRotationOverlap = 24 * time.Hour
	DefaultMaxConns        = 16_384           // open connections
	DefaultMaxBodyBytes    = 128 << 20        // bytes of request bodies held at a time
	DefaultShutdownTimeout = 15 * time.Second // more than ReadTimeout and the longest answer together
)

// Limits of a request.
const (
	maxHead           = 8 << 10 // bytes of request line and headers
	maxManagementBody = 64 << 10
	maxEventEnvelope  = 4 << 10 // bytes of an event around its data
	maxBatchBody      = 5 << 20
	maxBatchEvents    = 1000

	readTimeout  = 10 * time.Second // for a whole request, from its first byte
	writeTimeout = 10 * time.Second // for a whole answer
	idleTimeout  = 60 * time.Second // between two requests

	// keyBudget and storeBudget bound what a request may wait for Redis: for its
	// key, and for everything else. Publishing counts keyBudget into the budget of
	// core/publish and keeps the promise of an answer within two seconds by that. A
	// management call may take both, storeBudget twice if it has a body about an
	// endpoint, and core.ChangeDelay.
	keyBudget   = 500 * time.Millisecond
	storeBudget = 1400 * time.Millisecond

	// extraBudget bounds a read that the answer to a finished change can do without.
	extraBudget = 500 * time.Millisecond
)

// EndpointStore keeps endpoints. Its methods return *core.Error: CodeNotFound
// for an endpoint that is not there, CodeConflict, CodeUnavailable.
type EndpointStore interface {
	// CreateEndpoint returns CodeConflict when the organization has max already.
	CreateEndpoint(ctx context.Context, e *core.Endpoint, max int) error
	Endpoint(ctx context.Context, ref core.EndpointRef) (*core.Endpoint, error)
	// Endpoints returns all of an organization, newest first.
	Endpoints(ctx context.Context, organization string) (endpoints []core.Endpoint, version string, err error)
	// UpdateEndpoint applies change, several times if others change the endpoint
	// meanwhile, and returns the result. An error of change is returned as it is.
	UpdateEndpoint(ctx context.Context, ref core.EndpointRef, change func(*core.Endpoint) error) (*core.Endpoint, error)
	DeleteEndpoint(ctx context.Context, ref core.EndpointRef) error
	// Standings returns how endpoints stand, in one round trip.
	Standings(ctx context.Context, refs []core.EndpointRef) ([]core.Standing, error)
	// LookAt has the endpoint's backlog looked at now, if there is one. forget drops
	// what is known of the endpoint's condition.
	LookAt(ctx context.Context, ref core.EndpointRef, forget bool) error
	// ForgetEndpoint removes what a deleted endpoint left behind.
	ForgetEndpoint(ctx context.Context, ref core.EndpointRef) error
}

// TestStore keeps organizations from testing too often.
type TestStore interface {
	// AllowTest allows one test a second. wait is the time until the next one, 0 if
	// this one is allowed.
	AllowTest(ctx context.Context, organization string) (wait time.Duration, err error)
}

// AttemptStore reads the attempts that senders recorded.
type AttemptStore interface {
	// Attempts returns the newest attempts of an endpoint, or its newest failed
	// ones, newest first.
	Attempts(ctx context.Context, endpoint string, failures bool) ([]core.Attempt, error)
	// LastAttempts returns the newest attempt of each endpoint, nil where there
	// is none.
	LastAttempts(ctx context.Context, endpoints []string) ([]*core.Attempt, error)
	// AllowTrail allows an organization to have that many logs looked through for an
	// event. wait is the time until it may, 0 if this is allowed.
	AllowTrail(ctx context.Context, organization string, endpoints int) (wait time.Duration, err error)
	// EventTrails returns what the logs of endpoints know about an event, in their
	// order and without those that know nothing.
	EventTrails(ctx context.Context, endpoints []string, event string) ([]core.EventTrail, error)
}

// LetterStore keeps dead letters, and delivered deliveries for a while, and brings them
// back.
type LetterStore interface {
	// DeadLetters lists dead letters without their payloads, newest first: those before
	// the entry `before`, "" standing for all; at least one if there is one. It says
	// whether there are more.
	DeadLetters(ctx context.Context, ref core.EndpointRef, before string, limit int) (letters []core.KeptLetter, more bool, err error)
	// FindDeadLetters returns those of the first of some deliveries, as many as are read
	// at a time and at least one; nil where there is none. One that cannot be read has
	// no event.
	FindDeadLetters(ctx context.Context, ref core.EndpointRef, deliveries []string) ([]*core.KeptLetter, error)
	// FindKept returns what was kept of a delivery when it was delivered, nil if there is
	// nothing. One whose time has passed is a CodePayloadExpired error; one that cannot be
	// read has no event.
	FindKept(ctx context.Context, ref core.EndpointRef, delivery string) (*core.KeptLetter, error)
	// Park puts deliveries into backlogs. After an error some may be there.
	Park(ctx context.Context, ps []core.Parking) ([]core.Parked, error)
	// Replay puts fresh deliveries of dead letters, named by entries, into a backlog and
	// returns their ids, which are others where that was done before. It may be called
	// again.
	Replay(ctx context.Context, p core.Parking, entries []string) (ids []string, excess int, err error)
	// RemoveReplayed removes dead letters whose events wait in fresh deliveries.
	RemoveReplayed(ctx context.Context, ref core.EndpointRef, entries []string) error
	ClearDeadLetters(ctx context.Context, ref core.EndpointRef) (int, error)
	// Backlog returns deliveries that wait in a backlog after an entry.
	Backlog(ctx context.Context, ref core.EndpointRef, after string, limit int) ([]core.Waiting, error)
	// StartRecovery begins r and fills in how much there is to do. It returns
	// CodeConflict while another one runs.
	StartRecovery(ctx context.Context, r *core.Recovery) error
	Recovery(ctx context.Context, ref core.EndpointRef, id string) (*core.Recovery, error)
}

// KeyStore finds API keys by the SHA-256 of the key; CodeNotFound if there is
// none.
type KeyStore interface {
	APIKey(ctx context.Context, hash [32]byte) (*core.APIKey, error)
}

// Store is what the API shows and changes.
type Store interface {
	EndpointStore
	AttemptStore
	LetterStore
	TestStore
}

// Publisher stores events, see package publish.
type Publisher interface {
	Publish(r *publish.Request) (body []byte, err error)
	Reject(code core.Code, events int)
}

// Tester sends one event to an endpoint at once and tells what happened; *trial.Trier
// is one. Its errors are *core.Error and say that nothing was sent.
type Tester interface {
	Try(ctx context.Context, e *core.Endpoint, ev *core.Event) (core.Trial, error)
}

// SecretMaker makes signing secrets; *sign.Keyring is one.
type SecretMaker interface {
	NewSecret(ref core.EndpointRef, version uint32, now time.Time) (secret string, record core.Secret)
}

// Options configure a Server.
type Options struct {
	Listener net.Listener // nil: New listens on Listen
	Listen   string       // host:port

	Store        Store
	Keys         KeyStore
	Publisher    Publisher
	Announcer    Announcer // nil: changes are not announced
	Tester       Tester
	Keyring      SecretMaker
	CanonicalURL func(raw string) (string, error) // judges and normalises endpoint URLs; errors are *core.Error

	EventTypes      core.EventTypes // that may be published; nil: core.DefaultEventTypes
	MaxPayload      int             // bytes of one event's data; 0: DefaultMaxPayload
	MaxEndpoints    int             // per organization; 0: DefaultMaxEndpoints
	Quota           core.Quota      // that the Publisher holds organizations to, to be told to callers; zero: none
	RotationOverlap time.Duration   // unless the caller asks for another one; 0: DefaultRotationOverlap, negative: none
	MaxConns        int             // 0: DefaultMaxConns, or fewer where not so many files may be open
	MaxBodyBytes    int64           // 0: DefaultMaxBodyBytes
	ShutdownTimeout time.Duration   // for requests in flight when Run's context ends; 0: DefaultShutdownTimeout

	Tracer     core.Tracer           // nil: requests are not traced
	Registerer prometheus.Registerer // nil: metrics are kept but not registered
	Logger     *slog.Logger          // nil: slog.Default()
	Now        func() time.Time      // nil: time.Now
}

func (o *Options) complete() error {
	switch {
	case o.Store == nil:
		return errors.New("gateway: Options.Store is missing")
	case o.Publisher == nil:
		return errors.New("gateway: Options.Publisher is missing")
	case o.Tester == nil:
		return errors.New("gateway: Options.Tester is missing")
	case o.Keyring == nil:
		return errors.New("gateway: Options.Keyring is missing")
	case o.CanonicalURL == nil:
		return errors.New("gateway: Options.CanonicalURL is missing")
	case o.Keys == nil:
		return errors.New("gateway: Options.Keys is missing")
	case o.Listener == nil && o.Listen == "":
		return errors.New("gateway: Options.Listener and Options.Listen are both missing")
	case o.MaxPayload < 0 || o.MaxEndpoints < 0 || o.MaxConns < 0 || o.MaxBodyBytes < 0 || o.ShutdownTimeout < 0:
		return errors.New("gateway: a bound in Options is negative")
	case o.RotationOverlap > maxOverlap:
		return errors.New("gateway: Options.RotationOverlap is above 168h")
	}
	if o.EventTypes == nil {
		o.EventTypes = core.DefaultEventTypes()
	}
	setDefault(&o.MaxPayload, DefaultMaxPayload)
	setDefault(&o.MaxEndpoints, DefaultMaxEndpoints)
	setDefault(&o.RotationOverlap, DefaultRotationOverlap)
	o.RotationOverlap = max(o.RotationOverlap, 0)
	setDefault(&o.MaxBodyBytes, DefaultMaxBodyBytes)
	setDefault(&o.ShutdownTimeout, DefaultShutdownTimeout)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MaxConns == 0 {
		files := fileLimit()
		if o.MaxConns = connsWithin(files); o.MaxConns < DefaultMaxConns {
			o.Logger.Warn("the limit of open files (ulimit -n) allows fewer connections", "connections", o.MaxConns, "files", files)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// spareFiles is how many files the process needs beside the connections of
// callers, at most a quarter of what it may open: for Redis, its own listeners, logs.
const spareFiles = 512

// connsWithin returns how many connections may be open by default when the process
// may have so many files.
func connsWithin(files uint64) int {
	return int(min(DefaultMaxConns, files-min(spareFiles, files/4)))
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
