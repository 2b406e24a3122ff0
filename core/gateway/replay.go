package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

const (
	// maxReplayed is how many deliveries one request may name.
	maxReplayed = 100

	// maxBacklogLook is how many deliveries of a backlog are looked at for one that is
	// to be replayed, from the time on at which it was made, and maxBacklogReads in how
	// many reads, of 4 MiB each: large ones are not all looked at.
	maxBacklogLook  = 256
	maxBacklogReads = 8

	// backlogSlack is by how much a delivery may seem to have come to its backlog before
	// it was made: the clocks of gateways and of Redis differ.
	backlogSlack = 30 * time.Second
)

// replayedJSON says what became of a delivery that was to be sent again.
type replayedJSON struct {
	ID       string      `json:"id,omitempty"` // of the fresh delivery
	ReplayOf string      `json:"replay_of"`
	EventID  string      `json:"event_id,omitempty"`
	Held     *bool       `json:"held,omitempty"` // the endpoint is disabled: it waits until that is enabled
	Error    *replayFail `json:"error,omitempty"`
}

// replayFail says why a delivery of several was not sent again.
type replayFail struct {
	Code   core.Code `json:"code"`
	Detail string    `json:"detail"`
}

// replayDelivery is POST /api/v1/webhooks/{id}/deliveries/{delivery}/replay.
func (s *Server) replayDelivery(x *exchange) error {
	if !core.ValidDeliveryID(x.item) {
		return core.NotFound("delivery")
	}
	e, body, err := s.findWithBody(x)
	if err != nil {
		return err
	}
	if err := x.parseNothing(body); err != nil {
		return err
	}
	ctx, cancel := x.storeContext()
	defer cancel()
	letter, kept, err := s.findLetter(ctx, e, x.item)
	if err != nil {
		return err
	}
	if err := e.Replayable(); err != nil {
		return err
	}
	if err := s.judgeReplay(e, letter); err != nil {
		return err
	}
	id, err := s.replayOne(ctx, e, letter, kept)
	if err != nil {
		return err
	}
	s.logChange(x, "delivery replayed", e.ID)
	held := e.Holds()
	return x.replyJSON(fasthttp.StatusAccepted, replayedJSON{
		ID: id, ReplayOf: x.item, EventID: letter.Delivery.Event.ID, Held: &held,
	})
}

// findLetter reads the dead letter of a delivery or, if that is none, what was kept of it
// when it was delivered. Where there is neither, the error says why it is not replayed.
func (s *Server) findLetter(ctx context.Context, e *core.Endpoint, delivery string) (letter *core.KeptLetter, kept bool, err error) {
	letters, err := s.o.Store.FindDeadLetters(ctx, e.Ref(), []string{delivery})
	if err != nil {
		return nil, false, err
	}
	if letters[0] != nil {
		return letters[0], false, nil
	}
	if letter, err = s.o.Store.FindKept(ctx, e.Ref(), delivery); err == nil && letter == nil {
		err = s.notDead(ctx, e, delivery)
	}
	return letter, true, err
}

// replayOne parks a fresh delivery of letter and returns its id. What is kept of a
// delivered one stays, for further replays.
func (s *Server) replayOne(ctx context.Context, e *core.Endpoint, letter *core.KeptLetter, kept bool) (id string, err error) {
	letters := []*core.KeptLetter{letter}
	if !kept {
		ids, err := s.replay(ctx, e, letters)
		if err != nil {
			return "", err
		}
		return ids[0], nil
	}
	p := e.ReplayParking(letters, s.o.Now())
	if _, err := s.o.Store.Park(ctx, []core.Parking{p}); err != nil {
		return "", err
	}
	return p.Deliveries[0].ID, nil
}

// replay parks fresh deliveries of letters, of which it returns the ids, and then
// removes the letters. A crash between the two leaves these: when they are replayed
// again they are only removed.
func (s *Server) replay(ctx context.Context, e *core.Endpoint, letters []*core.KeptLetter) (ids []string, err error) {
	if len(letters) == 0 {
		return nil, nil
	}
	entries := make([]string, len(letters))
	for i, l := range letters {
		entries[i] = l.Entry
	}
	ids, _, err = s.o.Store.Replay(ctx, e.ReplayParking(letters, s.o.Now()), entries)
	if err != nil {
		return nil, err
	}
	// The fresh deliveries are stored: they are sent whatever comes now. So the letters
	// get time of their own to go.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), extraBudget, errStoreBudget)
	defer cancel()
	if err := s.o.Store.RemoveReplayed(ctx, e.Ref(), entries); err != nil {
		s.o.Logger.Warn("replayed dead letters were not removed", "endpoint", e.ID, "letters", len(entries), "error", err)
	}
	return ids, nil
}

// judgeReplay returns nil if l can be sent again.
func (s *Server) judgeReplay(e *core.Endpoint, l *core.KeptLetter) error {
	switch {
	case l.Delivery.Event == nil:
		return &core.Error{Code: core.CodeConflict, Detail: "a newer version of Sealpost kept this delivery; it can be replayed when this one has been updated"}
	case !e.Replays(l, s.o.Now()):
		return &core.Error{Code: core.CodeConflict, Detail: "the event is older than its max_age, or the endpoint's: it would not be sent"}
	}
	return nil
}

// notDead says why a delivery is not replayed that is neither among its endpoint's dead
// letters nor kept; it never returns nil.
func (s *Server) notDead(ctx context.Context, e *core.Endpoint, delivery string) error {
	row, err := s.newestRow(ctx, e.ID, delivery)
	if err != nil {
		return err
	}
	if row == nil {
		waiting, err := s.waits(ctx, e.Ref(), delivery)
		switch {
		case err != nil:
			return err
		case !waiting:
			return core.NotFound("delivery")
		}
		return &core.Error{Code: core.CodeConflict, Detail: "the delivery waits in the endpoint's backlog: it will be sent anyway"}
	}
	switch row.Status {
	case core.StatusRetrying:
		return &core.Error{Code: core.CodeConflict, Detail: "the delivery is not over yet: it will be sent again anyway"}
	case core.StatusDelivered:
		return &core.Error{Code: core.CodePayloadExpired, Detail: "the delivery succeeded, and its payload is not kept, or no longer"}
	}
	return &core.Error{Code: core.CodePayloadExpired, Detail: "the payload is no longer kept: the dead letter was replayed, deleted or too old"}
}

// newestRow returns the newest row of a delivery in its endpoint's log, nil if there
// is none.
func (s *Server) newestRow(ctx context.Context, endpoint, delivery string) (*core.Attempt, error) {
	var newest *core.Attempt
	for _, failures := range []bool{false, true} {
		rows, err := s.o.Store.Attempts(ctx, endpoint, failures)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(rows, func(a core.Attempt) bool { return a.Delivery == delivery })
		if i >= 0 && (newest == nil || rows[i].StartedAt.After(newest.StartedAt)) {
			newest = &rows[i]
		}
	}
	return newest, nil
}

// waits reports whether a delivery was found in the backlog, where it stands behind
// those that came before it was made.
func (s *Server) waits(ctx context.Context, ref core.EndpointRef, delivery string) (bool, error) {
	d := core.Delivery{ID: delivery, Event: new(core.Event)}
	after := strconv.FormatInt(max(0, d.CreatedAt().Add(-backlogSlack).UnixMilli()), 10)
	left := maxBacklogLook
	for range maxBacklogReads {
		waiting, err := s.o.Store.Backlog(ctx, ref, after, left)
		if err != nil {
			var known *core.Error
			if errors.As(err, &known) {
				return false, err
			}
			return false, nil // a newer version's: whether it is the one cannot be known
		}
		if slices.ContainsFunc(waiting, func(w core.Waiting) bool { return w.Delivery.ID == delivery }) {
			return true, nil
		}
		if left -= len(waiting); len(waiting) == 0 || left <= 0 {
			break
		}
		after = waiting[len(waiting)-1].Entry
	}
	return false, nil
}

// replayDeadLetters is POST /api/v1/webhooks/{id}/dead-letters/replay.
func (s *Server) replayDeadLetters(x *exchange) error {
	e, body, err := s.findWithBody(x)
	if err != nil {
		return err
	}
	f, err := x.parseForm(body, "deliveries", "since", "until")
	if err != nil {
		return err
	}
	if !f.has("deliveries") {
		return s.beginRecovery(x, e, f)
	}
	for _, name := range []string{"since", "until"} {
		if f.has(name) {
			f.errs.add(name, "cannot stand beside deliveries")
		}
	}
	ids := f.deliveries()
	if err := f.err(); err != nil {
		return err
	}
	if err := e.Replayable(); err != nil {
		return err
	}
	return s.replayListed(x, e, ids)
}

// replayListed replays the dead letters of deliveries, group by group as their
// payloads are read, and says of each delivery what became of it. Once a group is
// dealt with, a failure is that of the deliveries which are left.
func (s *Server) replayListed(x *exchange, e *core.Endpoint, ids []string) error {
	ctx, cancel := x.storeContext()
	defer cancel()
	data := make([]replayedJSON, 0, len(ids))
	for len(data) < len(ids) {
		group, err := s.replayGroup(ctx, e, ids[len(data):])
		if err != nil && len(data) == 0 {
			return err
		}
		if err != nil {
			s.o.Logger.Warn("dead letters were replayed in part", "endpoint", e.ID, "letters", len(data), "error", err)
			group = refuseReplay(ids[len(data):], err)
		}
		data = append(data, group...)
	}
	s.logChange(x, "deliveries replayed", e.ID)
	return x.replyJSON(fasthttp.StatusAccepted, struct {
		Data []replayedJSON `json:"data"`
		Held bool           `json:"held"`
	}{data, e.Holds()})
}

// replayGroup replays those that can be of the first dead letters of ids, and says of
// each what became of it. An error says that nothing is known of any of them.
func (s *Server) replayGroup(ctx context.Context, e *core.Endpoint, ids []string) ([]replayedJSON, error) {
	letters, err := s.o.Store.FindDeadLetters(ctx, e.Ref(), ids)
	if err != nil {
		return nil, err
	}
	data := make([]replayedJSON, len(letters))
	var again []*core.KeptLetter
	var positions []int
	for i, l := range letters {
		data[i].ReplayOf = ids[i]
		err := error(core.NotFound("dead letter"))
		if l != nil {
			err = s.judgeReplay(e, l)
		}
		if err != nil {
			data[i].Error = newReplayFail(err)
			continue
		}
		again, positions = append(again, l), append(positions, i)
	}
	fresh, err := s.replay(ctx, e, again)
	if err != nil {
		return nil, err
	}
	for i, position := range positions {
		data[position].ID, data[position].EventID = fresh[i], again[i].Delivery.Event.ID
	}
	return data, nil
}

// refuseReplay says of deliveries that err kept them from being replayed.
func refuseReplay(ids []string, err error) []replayedJSON {
	data := make([]replayedJSON, len(ids))
	for i, id := range ids {
		data[i] = replayedJSON{ReplayOf: id, Error: newReplayFail(err)}
	}
	return data
}

func newReplayFail(err error) *replayFail {
	known := asError(err)
	return &replayFail{Code: known.Code, Detail: known.Detail}
}

// deliveries returns the member of that name: the ids of deliveries.
func (f *form) deliveries() []string {
	const name = "deliveries"
	ids, ok := f.texts(name)
	if !ok {
		return nil
	}
	if len(ids) < 1 || len(ids) > maxReplayed {
		f.errs.add(name, fmt.Sprintf("must be 1 to %d ids of deliveries", maxReplayed))
		return nil
	}
	for i, id := range ids {
		switch field := fmt.Sprintf("%s[%d]", name, i); {
		case !core.ValidDeliveryID(id):
			f.errs.add(field, "is no id of a delivery")
		case slices.Contains(ids[:i], id):
			f.errs.add(field, "named twice")
		}
	}
	return ids
}
