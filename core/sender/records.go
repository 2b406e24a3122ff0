package sender

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

const (
	// maxRecords bounds the endpoint records kept in memory.
	maxRecords = 16384

	// maxReads bounds the reads of records that run at the same time. Whoever
	// needs a record meanwhile joins the next read, so few reads serve many.
	maxReads = 2

	// readTimeout bounds one read of records.
	readTimeout = 2 * time.Second
)

// errStaleRecord says that reading a record took longer than the record may be
// used, so nothing can be begun under it.
var errStaleRecord = errors.New("endpoint record was out of date when it arrived: Redis is too slow")

// errNotRead is what a read ends with if it panicked.
var errNotRead = errors.New("endpoint records were not read")

// record is what a sender needs of an endpoint, as one read found it. It is
// immutable.
type record struct {
	endpoint  *core.Endpoint // nil: there is no such endpoint
	target    *egress.Target // of the endpoint's URL; nil with targetErr
	targetErr error
	keys      []signingKey // of the secrets that were valid at readAt, newest first
	readAt    time.Time    // before the read began
}

// fresh reports whether a request may be begun under the record at now.
func (r *record) fresh(now time.Time) bool { return now.Sub(r.readAt) < core.RecordLifetime }

// records reads endpoint records and remembers them for core.RecordLifetime,
// which is what makes the API's promises about deletion and rotation hold.
type records struct {
	store  store
	signer *signers
	drop   func(*egress.Target) // told of URLs that an endpoint no longer has
	now    func() time.Time

	reads chan struct{} // a semaphore of maxReads

	mu    sync.Mutex
	known *cache[core.EndpointRef, *record]
	next  *read // gathers who needs a record; nil: nobody yet
}

// read is one read of records, shared by all who joined it before it began.
type read struct {
	refs  map[core.EndpointRef]struct{}
	done  chan struct{} // closed when found and err are set
	found map[core.EndpointRef]*record
	err   error
}

func newRecords(store store, signer *signers, drop func(*egress.Target), now func() time.Time) *records {
	return &records{
		store: store, signer: signer, drop: drop, now: now,
		reads: make(chan struct{}, maxReads),
		known: newCache[core.EndpointRef, *record](maxRecords),
	}
}

// get returns a record that is fresh, read again if need be.
func (r *records) get(ctx context.Context, ref core.EndpointRef) (*record, error) {
	if rec := r.cached(ref, r.now()); rec != nil {
		return rec, nil
	}
	found, err := r.fetch(ctx, []core.EndpointRef{ref})
	if err != nil {
		return nil, err
	}
	rec := found[ref]
	if !rec.fresh(r.now()) {
		return nil, errStaleRecord
	}
	return rec, nil
}

// prefetch reads, in one read, those of the records that are not fresh.
func (r *records) prefetch(ctx context.Context, refs []core.EndpointRef) error {
	_, missing := r.look(refs)
	if len(missing) == 0 {
		return nil
	}
	_, err := r.fetch(ctx, missing)
	return err
}

// all returns for each of refs a record that was fresh when it was looked at. Those
// that are not known are read in one read.
func (r *records) all(ctx context.Context, refs []core.EndpointRef) ([]*record, error) {
	all, missing := r.look(refs)
	if len(missing) == 0 {
		return all, nil
	}
	found, err := r.fetch(ctx, missing)
	if err != nil {
		return nil, err
	}
	for i, ref := range refs {
		if all[i] == nil {
			all[i] = found[ref]
		}
		if all[i].fresh(r.now()) {
			continue
		}
		if all[i], err = r.get(ctx, ref); err != nil { // it has aged meanwhile
			return nil, err
		}
	}
	return all, nil
}

// look returns the known record of each of refs, nil if it is not fresh, and which
// these are. What follows its like is looked up once.
func (r *records) look(refs []core.EndpointRef) (known []*record, missing []core.EndpointRef) {
	known = make([]*record, len(refs))
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, ref := range refs {
		if i > 0 && ref == refs[i-1] {
			known[i] = known[i-1]
			continue
		}
		if rec, ok := r.known.get(ref); ok && rec.fresh(now) {
			known[i] = rec
		} else {
			missing = append(missing, ref)
		}
	}
	return known, missing
}

// cached returns the known record if it is fresh at now, else nil.
func (r *records) cached(ref core.EndpointRef, now time.Time) *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec, ok := r.known.get(ref); ok && rec.fresh(now) {
		return rec
	}
	return nil
}

// forget drops the record of ref, because it was just changed by us.
func (r *records) forget(ref core.EndpointRef) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known.remove(ref)
}

// fetch joins the next read, or begins one, and returns what it found: a record
// for every ref.
func (r *records) fetch(ctx context.Context, refs []core.EndpointRef) (map[core.EndpointRef]*record, error) {
	r.mu.Lock()
	next := r.next
	first := next == nil
	if first {
		next = &read{
			refs: make(map[core.EndpointRef]struct{}, len(refs)),
			done: make(chan struct{}), err: errNotRead,
		}
		r.next = next
	}
	for _, ref := range refs {
		next.refs[ref] = struct{}{}
	}
	r.mu.Unlock()

	if first {
		// Who came first reads for all. It does not obey its own ctx, because the
		// others' records depend on it; it is held up for two readTimeouts at most.
		r.reads <- struct{}{}
		defer func() { <-r.reads }()
		r.run(context.WithoutCancel(ctx), next)
		return next.found, next.err
	}
	select {
	case <-next.done:
		return next.found, next.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// run closes next to newcomers, reads its records and publishes them.
func (r *records) run(ctx context.Context, next *read) {
	defer close(next.done)
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()

	r.mu.Lock()
	r.next = nil
	r.mu.Unlock()

	refs := make([]core.EndpointRef, 0, len(next.refs))
	for ref := range next.refs {
		refs = append(refs, ref)
	}
	// A change that the API made before this instant is in the answer; one made
	// after it is answered only when the record has aged.
	readAt := r.now()
	endpoints, err := r.store.Records(ctx, refs)
	if err == nil && len(endpoints) != len(refs) {
		err = errors.New("BUG: store returned another number of records than asked for")
	}
	if err != nil {
		next.err = err
		return
	}
	next.found, next.err = r.publish(refs, endpoints, readAt), nil
}

// publish turns endpoints into records and makes them known.
func (r *records) publish(refs []core.EndpointRef, endpoints []*core.Endpoint, readAt time.Time) map[core.EndpointRef]*record {
	previous := make([]*record, len(refs))
	r.mu.Lock()
	for i, ref := range refs {
		previous[i], _ = r.known.get(ref)
	}
	r.mu.Unlock()

	found := make(map[core.EndpointRef]*record, len(refs))
	for i, ref := range refs {
		found[ref] = r.build(endpoints[i], previous[i], readAt)
		if p := previous[i]; p != nil && p.target != nil && p.target != found[ref].target {
			r.drop(p.target)
		}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	for ref, rec := range found {
		// Two reads may finish in either order: the younger one stays.
		if known, ok := r.known.get(ref); !ok || !known.readAt.After(readAt) {
			r.known.put(ref, rec)
		}
	}
	return found
}

// build makes the record of e (nil: there is none) and takes from the previous
// one what has not changed.
func (r *records) build(e *core.Endpoint, previous *record, readAt time.Time) *record {
	rec := &record{endpoint: e, readAt: readAt}
	if e == nil {
		return rec
	}
	if previous != nil && previous.endpoint != nil && previous.endpoint.URL == e.URL {
		rec.target, rec.targetErr = previous.target, previous.targetErr
	} else {
		rec.target, rec.targetErr = egress.ParseTarget(e.URL)
	}
	rec.keys = r.signer.keys(e, readAt)
	return rec
}
