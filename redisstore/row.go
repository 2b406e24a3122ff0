package redisstore

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/core"
)

// A row of an endpoint's log is a line of fields separated by `|`:
//
//	1|delivery|number|status|event|event type|response status|reason|started|latency|next
//
// The leading 1 is the format; started and next are Unix milliseconds, latency
// milliseconds, and a zero time is empty. None of the fields can contain `|`
// (core.ValidEventID, core.ValidEventType, and sets that we choose), and
// missingRowsScript finds a row by its first four.
const (
	rowFormat = "1"
	rowFields = 11
)

// appendRow appends the row of a to dst.
func appendRow(dst []byte, a *core.Attempt) []byte {
	dst = append(dst, rowFormat...)
	dst = append(append(dst, '|'), a.Delivery...)
	dst = strconv.AppendInt(append(dst, '|'), int64(a.Number), 10)
	dst = append(append(dst, '|'), a.Status...)
	dst = append(append(dst, '|'), a.Event...)
	dst = append(append(dst, '|'), a.EventType...)
	dst = strconv.AppendInt(append(dst, '|'), int64(a.ResponseStatus), 10)
	dst = append(append(dst, '|'), a.Reason...)
	dst = appendMillis(append(dst, '|'), a.StartedAt)
	dst = strconv.AppendInt(append(dst, '|'), a.Latency.Milliseconds(), 10)
	return appendMillis(append(dst, '|'), a.NextAt)
}

func appendMillis(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	return strconv.AppendInt(dst, t.UnixMilli(), 10)
}

// parseRow reads a row of the log of an endpoint.
func parseRow(endpoint, row string) (core.Attempt, error) {
	fields := strings.Split(row, "|")
	if len(fields) != rowFields || fields[0] != rowFormat {
		return core.Attempt{}, fmt.Errorf("a row of %d fields in format %.8q", len(fields), fields[0])
	}
	var p numbers
	a := core.Attempt{
		Delivery: fields[1], Number: int(p.integer(fields[2])), Event: fields[4], EventType: fields[5], Endpoint: endpoint,
		Status: core.Status(fields[3]), ResponseStatus: int(p.integer(fields[6])), Reason: core.Reason(fields[7]),
		StartedAt: p.millis(fields[8]), Latency: time.Duration(p.integer(fields[9])) * time.Millisecond, NextAt: p.millis(fields[10]),
	}
	return a, p.err
}

// numbers parses numbers and keeps the first error.
type numbers struct{ err error }

func (p *numbers) integer(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil && p.err == nil {
		p.err = err
	}
	return n
}

// millis reads Unix milliseconds; empty is the zero time.
func (p *numbers) millis(s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	return time.UnixMilli(p.integer(s)).UTC()
}
