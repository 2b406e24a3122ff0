package queue

import (
	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

// Limits of a bundle. A single event beyond maxBundleBytes travels alone, and
// one with more deliveries in as many bundles as it needs.
const (
	maxBundleDeliveries = 256       // and a rest of maxBundleRest
	maxBundleBytes      = 512 << 10 // of events and deliveries before compression

	// maxBundleRest is how many deliveries are not worth a bundle of their own, if they fit into
	// the one before: a flush whose events go to ten endpoints each has 280 or so.
	maxBundleRest = maxBundleDeliveries / 2

	deliveryBytes = 128 // what a delivery adds to its bundle, roughly
	eventBytes    = 64  // what an event adds besides its own bytes, roughly
)

// part is a run of deliveries, ds[from:to], that travels in one bundle.
type part struct{ from, to int }

func (p part) count() int { return p.to - p.from }

// split divides ds into bundles, in order. None mixes deliveries that are Bulk with
// others. Deliveries of one event, which stand
// together in ds, are kept together where they fit, and a small rest joins the bundle before.
func split(ds []core.Delivery) []part {
	var parts []part
	before := 0 // size of the last one
	add := func(p part, size int) {
		if n := len(parts) - 1; n >= 0 {
			last := &parts[n]
			if p.count() <= maxBundleRest && last.count() <= maxBundleDeliveries && before+size <= maxBundleBytes && ds[p.from].Bulk == ds[last.from].Bulk {
				last.to, before = p.to, before+size
				return
			}
		}
		parts, before = append(parts, p), size
	}
	open, size := part{}, 0
	for from := 0; from < len(ds); {
		to := from + 1
		for to < len(ds) && to-from < maxBundleDeliveries && ds[to].Event == ds[from].Event {
			to++
		}
		group := eventBytes + len(ds[from].Event.Body) + frame.OriginSize(ds[from].Event.Origin) + (to-from)*deliveryBytes
		fits := ds[from].Bulk == ds[open.from].Bulk && to-open.from <= maxBundleDeliveries && size+group <= maxBundleBytes
		if !fits && open.to > open.from {
			add(open, size)
			open, size = part{from: from}, 0
		}
		open.to, size = to, size+group
		from = to
	}
	if open.to > open.from {
		add(open, size)
	}
	return parts
}
