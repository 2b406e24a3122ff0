package publish

import (
	"context"

	"github.com/sealpost/sealpost/core"
)

// UnmovedQueue stores deliveries only if the endpoints that they were made for are
// still the organization's.
type UnmovedQueue interface {
	// EnqueueUnmoved stores ds if the version of the organization's endpoints is this
	// one. Otherwise, and where it cannot tell, unmoved is false and nothing is stored;
	// else errs is what Queue.EnqueueKeyed returns. It does not keep ds.
	EnqueueUnmoved(ctx context.Context, ds []core.Delivery, organization, version string) (errs []error, unmoved bool)
}

// maxUnmoved is how many deliveries are stored without reading the version before:
// with more, one round trip the less makes no difference.
const maxUnmoved = 64

// runUnmoved commits a small flush of one organization in one round trip: instead of
// reading the version of its endpoints before, it leaves it to the queue to see that
// this is still that of the snapshot at hand. It reports whether it has answered the
// requests; otherwise nothing has happened.
func (f *flush) runUnmoved(ctx context.Context) bool {
	if f.p.o.Unmoved == nil || len(f.organizations) != 1 || len(f.claims) > 0 || len(f.draws) > 0 {
		return false
	}
	o := &f.organizations[0]
	o.snapshot = f.p.snapshots.recentOf(o.name, f.p.o.Now())
	if o.snapshot == nil {
		return false
	}
	if !f.gatherUnmoved(o) {
		f.forgetUnmoved(o)
		return false
	}
	errs, unmoved := f.p.o.Unmoved.EnqueueUnmoved(ctx, f.deliveries, o.name, o.snapshot.version)
	if !unmoved {
		f.forgetUnmoved(o)
		return false
	}
	for i, err := range errs {
		if err != nil {
			f.fail(f.owners[i], err)
		}
	}
	f.traced.deliveries += len(f.deliveries)
	f.p.collector.fannedOut(f.waiters, f.p.o.Now())
	f.settle(f.waiters)
	return true
}

// gatherUnmoved makes the deliveries of all requests. It reports whether it has made
// some for each of them, not too many, and none that go to a backlog: only then the
// queue sees for all of them that nothing has moved.
func (f *flush) gatherUnmoved(o *organization) bool {
	for _, w := range f.waiters {
		for i := range w.outcomes {
			out := &w.outcomes[i]
			if out.event == nil {
				continue
			}
			to := o.snapshot.byType[out.event.Type]
			if len(to.direct) == 0 || len(to.parked) > 0 || len(f.deliveries)+len(to.direct) > maxUnmoved {
				return false
			}
			out.deliveries = len(to.direct)
			w.deliveries += out.deliveries
			f.fanOut(o, w, out)
		}
	}
	return len(f.deliveries) > 0
}

// forgetUnmoved makes the flush what it was before.
func (f *flush) forgetUnmoved(o *organization) {
	o.snapshot = nil
	for _, w := range f.waiters {
		w.deliveries = 0
		for i := range w.outcomes {
			w.outcomes[i].deliveries = 0
		}
	}
	f.dropGathered()
}
