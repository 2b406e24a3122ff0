package gateway

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// Bounds of `limit`.
const (
	maxEndpointPage = 250
	maxAttemptPage  = 100
	maxLetterPage   = 100
)

// maxCursor bounds a cursor, in bytes. Ours are far shorter.
const maxCursor = 256

// A cursor names the last row of a page by what the rows are sorted by, not by
// position: rows that appear or vanish between two pages neither repeat nor
// hide others. It is opaque to callers, so that its form may change.
const (
	endpointCursor = "e1"
	attemptCursor  = "d1"
	letterCursor   = "l1"
)

func encodeCursor(kind, sortedBy, id string) *string {
	s := base64.RawURLEncoding.EncodeToString([]byte(kind + ":" + sortedBy + ":" + id))
	return &s
}

func decodeCursor(kind, cursor string) (sortedBy int64, id string, ok bool) {
	if len(cursor) > maxCursor {
		return 0, "", false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return 0, "", false
	}
	parts := strings.SplitN(string(raw), ":", 3)
	if len(parts) != 3 || parts[0] != kind || parts[2] == "" {
		return 0, "", false
	}
	sortedBy, err = strconv.ParseInt(parts[1], 10, 64)
	return sortedBy, parts[2], err == nil
}

// parameter returns a query parameter; ok is false if it is absent.
func parameter(args *fasthttp.Args, name string) (value string, ok bool, err error) {
	values := args.PeekMulti(name)
	switch len(values) {
	case 0:
		return "", false, nil
	case 1:
		return string(values[0]), true, nil
	default:
		return "", false, badRequest(name, "given more than once")
	}
}

// limitOf returns `limit`, or absent if it is not there.
func limitOf(args *fasthttp.Args, highest, absent int) (limit int, ok bool, err error) {
	value, ok, err := parameter(args, "limit")
	if err != nil || !ok {
		return absent, false, err
	}
	limit, err = strconv.Atoi(value)
	if err != nil || limit < 1 || limit > highest || value[0] == '+' {
		return 0, false, badRequest("limit", fmt.Sprintf("must be a number from 1 to %d", highest))
	}
	return limit, true, nil
}

func cursorOf(args *fasthttp.Args, kind string) (sortedBy int64, id string, err error) {
	value, ok, err := parameter(args, "cursor")
	if err != nil || !ok {
		return 0, "", err
	}
	if sortedBy, id, ok = decodeCursor(kind, value); !ok {
		return 0, "", badRequest("cursor", "not a cursor of this list")
	}
	return sortedBy, id, nil
}

// endpointPage is what a caller wants to see of the endpoints.
type endpointPage struct {
	paged     bool // limit or cursor was given
	limit     int
	afterTime int64 // Unix milliseconds of the last row seen
	afterID   string
}

func endpointPageOf(args *fasthttp.Args) (p endpointPage, err error) {
	if p.limit, p.paged, err = limitOf(args, maxEndpointPage, maxEndpointPage); err != nil {
		return p, err
	}
	if p.afterTime, p.afterID, err = cursorOf(args, endpointCursor); err != nil {
		return p, err
	}
	p.paged = p.paged || p.afterID != ""
	return p, nil
}

// cut returns the page of endpoints, which are newest first and by id among
// those of one millisecond, and the cursor of the next one.
func (p *endpointPage) cut(endpoints []core.Endpoint) ([]core.Endpoint, *string) {
	if !p.paged {
		return endpoints, nil
	}
	if p.afterID != "" {
		n := 0
		for n < len(endpoints) && !p.after(&endpoints[n]) {
			n++
		}
		endpoints = endpoints[n:]
	}
	if len(endpoints) <= p.limit {
		return endpoints, nil
	}
	endpoints = endpoints[:p.limit]
	last := &endpoints[p.limit-1]
	return endpoints, encodeCursor(endpointCursor, strconv.FormatInt(last.CreatedAt.UnixMilli(), 10), last.ID)
}

// after reports whether e stands after the last row seen.
func (p *endpointPage) after(e *core.Endpoint) bool {
	at := time.UnixMilli(p.afterTime)
	created := e.CreatedAt.Truncate(time.Millisecond)
	return created.Before(at) || created.Equal(at) && e.ID > p.afterID
}

// attemptPage is what a caller wants to see of an endpoint's attempts.
type attemptPage struct {
	limit     int
	status    core.Status // "": all
	afterTime int64       // Unix milliseconds of the start of the last row seen
	afterRow  string      // its rowName
}

// rowName tells the attempts of one millisecond apart. The number alone does not:
// the row that ends a delivery without another attempt bears that of the attempt
// before.
func rowName(a *core.Attempt) string {
	return strconv.Itoa(a.Number) + "|" + string(a.Status) + "|" + a.Delivery
}

func attemptPageOf(args *fasthttp.Args) (p attemptPage, err error) {
	if p.limit, _, err = limitOf(args, maxAttemptPage, maxAttemptPage); err != nil {
		return p, err
	}
	if p.afterTime, p.afterRow, err = cursorOf(args, attemptCursor); err != nil {
		return p, err
	}
	status, ok, err := parameter(args, "status")
	if err != nil {
		return p, err
	}
	switch p.status = core.Status(status); p.status {
	case core.StatusDelivered, core.StatusRetrying, core.StatusFailed, core.StatusDiscarded:
	default:
		if ok {
			return p, badRequest("status", "must be delivered, retrying, failed or discarded")
		}
	}
	return p, nil
}

// failures reports whether the page is served from the list of failed attempts,
// which successes cannot push out.
func (p *attemptPage) failures() bool {
	return p.status == core.StatusRetrying || p.status == core.StatusFailed
}

// cut returns the page of attempts, which are newest first, and the cursor of
// the next one. A cursor whose row has been pushed out ends the list: so has
// everything older.
func (p *attemptPage) cut(attempts []core.Attempt) ([]core.Attempt, *string) {
	if p.afterRow != "" {
		n := len(attempts) - 1
		for n >= 0 && !p.lastSeen(&attempts[n]) {
			n--
		}
		if n < 0 {
			return nil, nil
		}
		attempts = attempts[n+1:]
	}
	page := make([]core.Attempt, 0, min(p.limit, len(attempts)))
	for i := range attempts {
		if p.status != "" && attempts[i].Status != p.status {
			continue
		}
		if len(page) == p.limit {
			last := &page[p.limit-1]
			return page, encodeCursor(attemptCursor, strconv.FormatInt(last.StartedAt.UnixMilli(), 10), rowName(last))
		}
		page = append(page, attempts[i])
	}
	return page, nil
}

// lastSeen reports whether a is the last row seen. cut looks for it from the
// oldest row on: whatever the log holds, the next page begins behind the one
// before, and the pages end.
func (p *attemptPage) lastSeen(a *core.Attempt) bool {
	return a.StartedAt.UnixMilli() == p.afterTime && rowName(a) == p.afterRow
}
