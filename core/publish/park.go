package publish

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sealpost/sealpost/core"
)

// parkings gathers the deliveries that go to backlogs, each endpoint's in the
// order in which its events were accepted.
type parkings struct {
	all    []core.Parking
	index  map[core.EndpointRef]int // endpoint → index in all
	owners []*outcome               // one for each delivery
}

func newParkings() parkings { return parkings{index: make(map[core.EndpointRef]int)} }

// add makes a delivery of out's event, under a claim unless that is nil.
func (p *parkings) add(ref core.EndpointRef, look time.Duration, out *outcome, claim *core.Reservation) {
	i, ok := p.index[ref]
	if !ok {
		i = len(p.all)
		p.index[ref] = i
		p.all = append(p.all, core.Parking{Endpoint: ref, Due: core.DueAfter(out.event.AcceptedAt, look)})
	}
	parking := &p.all[i]
	parking.Deliveries = append(parking.Deliveries, core.Delivery{
		ID: core.NewDeliveryID(out.event.AcceptedAt), Organization: ref.Organization, Endpoint: ref.ID, Event: out.event,
	})
	p.owners = append(p.owners, out)
	if claim == nil {
		return
	}
	n := len(parking.Deliveries)
	if last := len(parking.Keyed) - 1; last >= 0 && parking.Keyed[last].Owner == claim.Owner {
		parking.Keyed[last].To = n
	} else {
		parking.Keyed = append(parking.Keyed, core.Keyed{Reservation: *claim, From: n - 1, To: n})
	}
}

func (p *parkings) reset() {
	clear(p.all)
	clear(p.index)
	clear(p.owners)
	p.all, p.owners = p.all[:0], p.owners[:0]
}

// pushBoth stores what goes to the queue and what goes to backlogs side by side:
// neither has to wait for the other.
func (f *flush) pushBoth(ctx context.Context) {
	parked := make(chan error, 1)
	go func() { parked <- f.park(ctx) }()
	// Even after a panic the slices that park reads are not used again before it
	// has ended.
	defer func() { f.noteParked(<-parked) }()
	f.pushQueue(ctx)
}

// park stores what goes to backlogs. It does not panic, because it may have a
// goroutine of its own.
func (f *flush) park(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			f.p.o.Logger.Error("panic while storing events", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	_, err = f.p.o.Backlog.Park(ctx, f.parkings.all)
	return err
}

// noteParked notes what became of the deliveries that went to backlogs.
func (f *flush) noteParked(err error) {
	if err == nil {
		f.p.metrics.parked.Add(float64(len(f.parkings.owners)))
		return
	}
	for _, out := range f.parkings.owners {
		f.fail(out, err)
	}
}
