package gateway

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// letterJSON is a dead letter as the API shows it: never its payload.
type letterJSON struct {
	ID         string      `json:"id"` // of the delivery
	Event      string      `json:"event"`
	EventID    string      `json:"event_id"`
	Error      core.Reason `json:"error"`
	Attempts   int         `json:"attempts"`
	AcceptedAt string      `json:"accepted_at"`
	DiedAt     string      `json:"died_at"`
	Size       int         `json:"size"`
}

func newLetterJSON(l *core.KeptLetter) letterJSON {
	d := &l.Delivery
	return letterJSON{
		ID: d.ID, Event: d.Event.Type, EventID: d.Event.ID, Error: l.Reason, Attempts: d.Attempts,
		AcceptedAt: formatTime(d.Event.AcceptedAt), DiedAt: formatTime(l.DiedAt), Size: l.Size,
	}
}

// listDeadLetters is GET /api/v1/webhooks/{id}/dead-letters.
func (s *Server) listDeadLetters(x *exchange) error {
	ctx, cancel := x.storeContext()
	defer cancel()
	e, err := s.find(ctx, x)
	if err != nil {
		return err
	}
	limit, _, err := limitOf(x.ctx.QueryArgs(), maxLetterPage, maxLetterPage)
	if err != nil {
		return err
	}
	before, err := letterCursorOf(x.ctx.QueryArgs())
	if err != nil {
		return err
	}
	letters, more, err := s.o.Store.DeadLetters(ctx, e.Ref(), before, limit)
	if err != nil {
		return err
	}
	var next *string
	if more {
		ms, sequence, _ := strings.Cut(letters[len(letters)-1].Entry, "-")
		next = encodeCursor(letterCursor, ms, sequence)
	}
	data := make([]letterJSON, len(letters))
	for i := range letters {
		data[i] = newLetterJSON(&letters[i])
	}
	return x.replyJSON(fasthttp.StatusOK, struct {
		Data       []letterJSON `json:"data"`
		NextCursor *string      `json:"next_cursor"`
	}{data, next})
}

// letterCursorOf returns the entry of the last row seen, "" if there is none.
func letterCursorOf(args *fasthttp.Args) (entry string, err error) {
	ms, sequence, err := cursorOf(args, letterCursor)
	if err != nil || sequence == "" {
		return "", err
	}
	if n, err := strconv.ParseUint(sequence, 10, 64); err != nil || ms < 0 || ms == 0 && n == 0 || sequence != strconv.FormatUint(n, 10) {
		return "", badRequest("cursor", "not a cursor of this list")
	}
	return fmt.Sprint(ms, "-", sequence), nil
}

// clearDeadLetters is DELETE /api/v1/webhooks/{id}/dead-letters.
func (s *Server) clearDeadLetters(x *exchange) error {
	ctx, cancel := x.storeContext()
	defer cancel()
	e, err := s.find(ctx, x)
	if err != nil {
		return err
	}
	n, err := s.o.Store.ClearDeadLetters(ctx, e.Ref())
	if err != nil {
		return err
	}
	s.logChange(x, "dead letters deleted", e.ID)
	return x.replyJSON(fasthttp.StatusOK, struct {
		Deleted int `json:"deleted"`
	}{n})
}
