package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealpost/sealpost/cmd/internal/app/units"
	"github.com/sealpost/sealpost/core"
)

// overdue is how late a look at a backlog is worth telling.
const overdue = 5 * time.Second

// lines writes a snapshot, at most height lines of at most width characters; 0
// is no bound. What does not fit is cut off.
func (s *snapshot) lines(width, height int) []string {
	lines := s.head()
	for _, part := range [][]string{s.flowLines(), s.queueLines(), s.redisLines(), s.worstLines()} {
		lines = append(append(lines, ""), part...)
	}
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	for i := range lines {
		lines[i] = fit(lines[i], width)
	}
	return lines
}

// fit keeps a line within a width and the terminal from obeying it.
func fit(line string, width int) string {
	line = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimRight(line, " "))
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}

func (s *snapshot) head() []string {
	lines := []string{fmt.Sprintf("sealpost top  %s  gateways %d/%d  senders %d/%d  every %v",
		s.at.Format(time.TimeOnly), s.gateways, s.wantGateways, s.senders, s.wantSenders, s.interval)}
	for _, reason := range s.silent {
		lines = append(lines, "no answer from "+reason)
	}
	return lines
}

func (s *snapshot) flowLines() []string {
	lines := []string{fmt.Sprintf("%-18s %12s %10s %10s", "", "per second", "p50", "p99")}
	for _, f := range s.flows {
		p50, p99 := "", ""
		if f.timed {
			p50, p99 = seconds(f.p50), seconds(f.p99)
		}
		lines = append(lines, fmt.Sprintf("%-18s %12s %10s %10s   %s", f.name, number(f.rate), p50, p99, f.note))
	}
	return append(lines, fmt.Sprintf("%-18s %12s", "in flight", strconv.FormatFloat(s.inFlight, 'f', 0, 64)))
}

func (s *snapshot) queueLines() []string {
	if s.redisErr != nil {
		return []string{"queues and Redis: " + s.redisErr.Error()}
	}
	lines := []string{fmt.Sprintf("%-12s %9s %9s %9s %9s %9s %10s", "queue", "pending", "active", "scheduled", "retry", "archived", "oldest")}
	for _, q := range s.queues {
		oldest := "-"
		if q.OldestPending > 0 {
			oldest = seconds(q.OldestPending.Seconds())
		}
		lines = append(lines, fmt.Sprintf("%-12s %9d %9d %9d %9d %9d %10s", q.Queue, q.Pending, q.Active, q.Scheduled, q.Retry, q.Archived, oldest))
	}
	return lines
}

func (s *snapshot) redisLines() []string {
	if s.redisErr != nil {
		return nil
	}
	memory := units.Bytes(s.redis.Used)
	if s.redis.Limit > 0 {
		memory += fmt.Sprintf(" of %s (%.0f %%)", units.Bytes(s.redis.Limit), 100*s.redis.Fullness())
	}
	return []string{fmt.Sprintf("Redis  %s, %s commands a second", memory, number(s.commands)), s.backlogLine()}
}

// backlogLine tells what waits for endpoints, and how many endpoints are in which
// state, the worst first.
func (s *snapshot) backlogLine() string {
	v := &s.backlogs
	line := fmt.Sprintf("Backlogs  %d deliveries of %d endpoints, %s", v.Deliveries, v.Endpoints, units.Bytes(v.Bytes))
	if v.Overdue >= overdue {
		line += ", overdue for " + seconds(v.Overdue.Seconds())
	}
	if v.Conditions > 0 && len(v.ByState) == 0 {
		return line + fmt.Sprintf("; %d endpoints not active", v.Conditions)
	}
	return line + fmt.Sprintf("; endpoints: %d failing, %d paused, %d throttled, %d slow, %d catching up", v.ByState[core.StateFailing],
		v.ByState[core.StatePaused], v.ByState[core.StateThrottled], v.ByState[core.StateSlow], v.ByState[core.StateCatchingUp])
}

func (s *snapshot) worstLines() []string {
	const title = "worst endpoints"
	switch {
	case s.worstErr != nil:
		return []string{title + ": " + s.worstErr.Error()}
	case len(s.worst) == 0:
		return []string{title + ": none"}
	}
	const columns = "%-36s %8s %8s %10s   %-14s %s"
	lines := []string{fmt.Sprintf(columns, title, "failed", "slow", "slowest", "last reason", "organization")}
	for _, t := range s.worst {
		lines = append(lines, fmt.Sprintf(columns, t.Endpoint, strconv.Itoa(t.Failed), strconv.Itoa(t.Slow), seconds(t.Slowest), t.Reason, t.Organization))
	}
	return lines
}

// number writes a rate: one digit behind the point, thousands apart.
func number(n float64) string {
	if math.IsNaN(n) {
		return "-"
	}
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(n, 'f', 1, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return whole + "." + fraction
}

// seconds writes a duration in the unit that suits it.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s):
		return "-"
	case s < 0.001:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case s < 1:
		return fmt.Sprintf("%.1f ms", s*1e3)
	case s < 120:
		return fmt.Sprintf("%.1f s", s)
	case s < 7200:
		return fmt.Sprintf("%.0f min", s/60)
	}
	return fmt.Sprintf("%.1f h", s/3600)
}
