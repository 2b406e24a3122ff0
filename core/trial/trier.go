package trial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/retry"
	"github.com/sealpost/sealpost/core/sign"
)

const (
	// Timeout bounds a test, over everything: shorter than that of a delivery, because
	// somebody waits for it.
	Timeout = 8 * time.Second

	// maxTrials bounds the tests that are under way in a process.
	maxTrials = 64

	// readBudget bounds the reading of a record in the middle of a test.
	readBudget = time.Second
)

var errKey = errors.New("no key to sign with")

// endpoints is what a Trier needs of Redis; *redisstore.Store is one.
type endpoints interface {
	// Endpoint returns CodeNotFound if there is no such endpoint.
	Endpoint(ctx context.Context, ref core.EndpointRef) (*core.Endpoint, error)
}

// Trier tests endpoints. It is safe for concurrent use.
type Trier struct {
	client  *egress.Client
	store   endpoints
	keyring *sign.Keyring
	now     func() time.Time
	places  chan struct{} // a semaphore
}

// New returns a Trier. The client is to be nobody else's: its connections end with
// the test that made them. now may be nil: time.Now.
func New(client *egress.Client, store endpoints, keyring *sign.Keyring, now func() time.Time) *Trier {
	if now == nil {
		now = time.Now
	}
	return &Trier{client: client, store: store, keyring: keyring, now: now, places: make(chan struct{}, maxTrials)}
}

// Try sends ev to e. The error is a *core.Error and says that nothing was sent:
// CodeNotFound or CodeConflict because the endpoint was deleted, disabled or moved
// meanwhile, CodeUnavailable for reasons of ours.
func (t *Trier) Try(ctx context.Context, e *core.Endpoint, ev *core.Event) (core.Trial, error) {
	select {
	case t.places <- struct{}{}:
		defer func() { <-t.places }()
	default:
		return core.Trial{}, core.Unavailable("too many endpoints are being tested", nil)
	}
	target, err := egress.ParseTarget(e.URL)
	if err != nil { // it was accepted under other rules than those in force now
		return core.Trial{Reason: core.ReasonBlocked}, nil
	}
	defer t.client.DropIdle(target)
	res := t.client.Post(ctx, time.Now(), Timeout, target, func(m *egress.Message) error {
		return t.compose(ctx, m, e, ev)
	})
	return judge(&res)
}

// compose writes the request, under a record that is read immediately before its
// first byte.
func (t *Trier) compose(ctx context.Context, m *egress.Message, e *core.Endpoint, ev *core.Event) error {
	ctx, cancel := context.WithTimeout(ctx, readBudget)
	defer cancel()
	read := t.now()
	fresh, err := t.store.Endpoint(ctx, e.Ref())
	switch {
	case err != nil:
		return err
	case !fresh.Enabled || fresh.URLRevision != e.URLRevision:
		return &core.Error{Code: core.CodeConflict, Detail: "the endpoint was disabled or moved during the test: nothing was sent"}
	}
	now := t.now()
	if m.Header, err = t.appendHeader(m.Header[:0], fresh, ev, now); err != nil {
		return err
	}
	m.Body = ev.Body
	if t.now().Sub(read) >= core.RecordLifetime {
		return core.Unavailable("the endpoint could not be read in time: nothing was sent", nil)
	}
	return nil
}

// appendHeader appends the headers of Standard Webhooks 1.0.0, signed with every valid
// secret as a delivery is.
func (t *Trier) appendHeader(dst []byte, e *core.Endpoint, ev *core.Event, now time.Time) ([]byte, error) {
	dst = append(dst, sign.HeaderID+": "+ev.ID+"\r\n"+sign.HeaderTimestamp+": "...)
	dst = strconv.AppendInt(dst, now.Unix(), 10)
	dst = append(dst, "\r\n"+sign.HeaderSignature+":"...)
	secrets := e.ValidSecrets(now)
	for i := range secrets {
		signer, err := t.keyring.Derive(e.Ref(), &secrets[i])
		if err != nil {
			return dst, fmt.Errorf("%w: %w", errKey, err)
		}
		dst = signer.AppendSignature(append(dst, ' '), ev.ID, now.Unix(), ev.Body)
	}
	if len(secrets) == 0 {
		return dst, errKey
	}
	return append(dst, '\r', '\n'), nil
}

// judge returns what a test showed.
func judge(res *egress.Result) (core.Trial, error) {
	out := core.Trial{
		ResponseStatus: res.Status, Reason: res.Reason, Address: classOf(res.Remote),
		DNS: res.DNS, Connect: res.Connect, TLS: res.TLS, FirstByte: res.FirstByte, Total: res.Total,
	}
	var known *core.Error
	switch {
	case res.Status != 0:
		_, out.Reason = retry.Classify(res.Status)
	case res.Reason == core.ReasonBlocked:
		// How long it took would tell about networks that are none of the caller's business.
		return core.Trial{Reason: core.ReasonBlocked}, nil
	case res.Reason != "":
	case errors.Is(res.Err, errKey):
		out.Reason = core.ReasonSigningKey
	case errors.As(res.Err, &known):
		return core.Trial{}, res.Err
	default:
		return core.Trial{}, core.Unavailable("the endpoint could not be tested now", res.Err)
	}
	return out, nil
}

// classOf returns what kind of address addr is; "" for none.
func classOf(addr netip.Addr) core.AddressClass {
	switch {
	case !addr.IsValid():
		return ""
	case addr.IsLoopback():
		return core.AddressLoopback
	case addr.IsLinkLocalUnicast():
		return core.AddressLinkLocal
	case egress.Public(addr):
		return core.AddressPublic
	default:
		return core.AddressPrivate
	}
}
