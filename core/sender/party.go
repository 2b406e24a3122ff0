package sender

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/core"
)

const (
	// partyRecords closes a party. It is far below the 64 bundles that a queue runs at
	// a time: a party that waits for more than there are would be closed by its timer
	// only, and the queue's pace would be its.
	partyRecords = 16

	// partyKept closes it too, in bytes of payloads that are to be kept, as one record
	// must not carry too many.
	partyKept = 4 << 20
)

// errParty says that whoever should have written a party's record did not come to it.
var errParty = errors.New("the record of several bundles was not written")

// party is bundles whose records are written together, as one. See joint and convoy.
type party struct {
	record  core.Record
	records int           // in it
	kept    int           // bytes of payloads in it
	full    chan struct{} // closed when joint need not wait for more
	over    chan struct{} // closed when err is set
	err     error
}

func newParty() *party {
	return &party{full: make(chan struct{}), over: make(chan struct{}), err: errParty}
}

// add adds rec and reports whether p is to be closed.
func (p *party) add(rec *core.Record) (full bool) {
	if p.records == 0 {
		p.record = *rec // often nobody joins: nothing is copied
	} else {
		p.record.Attempts = append(p.record.Attempts, rec.Attempts...)
		p.record.Kept = append(p.record.Kept, rec.Kept...)
		p.record.Marks = append(p.record.Marks, rec.Marks...)
	}
	p.records++
	for i := range rec.Kept {
		p.kept += len(rec.Kept[i].Event.Body)
	}
	return p.records >= partyRecords || p.kept >= partyKept
}

// wait waits until somebody else has written the record, and returns its error.
func (p *party) wait(ctx context.Context) error {
	select {
	case <-p.over:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
