package doctor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sealpost/sealpost/core"
)

// maxPings bounds the round trips of checkLatency; half of checkTimeout does
// too.
const maxPings = 100

// Round trips from which on there is a warning or an error. An event takes three
// of them before it is answered; an endpoint's record must be read and used
// within core.RecordLifetime, so that beyond it nothing is delivered at all.
const (
	latencyWarning = 20 * time.Millisecond
	latencyError   = core.RecordLifetime
)

func checkLatency(ctx context.Context, p *patient) (Finding, error) {
	end := time.Now().Add(checkTimeout / 2)
	var trips []time.Duration
	for len(trips) < maxPings && time.Now().Before(end) {
		began := time.Now()
		if err := p.Client.Ping(ctx).Err(); err != nil {
			return Finding{}, err
		}
		trips = append(trips, time.Since(began))
	}
	slices.Sort(trips)
	p50, longest := trips[len(trips)/2], trips[len(trips)-1]
	return judgeLatency(p50, longest).with(map[string]any{"pings": len(trips), "p50_ms": ms(p50), "max_ms": ms(longest)}), nil
}

func judgeLatency(p50, longest time.Duration) Finding {
	const near = "bring gateways, senders and Redis nearer to each other; redis-cli --latency, SLOWLOG GET and the disk of Redis tell more"
	text := "a round trip takes %v, the longest of the sample %v"
	switch {
	case p50 >= latencyError:
		return bad(near, text+": endpoints' records are too old when they arrive, nothing can be delivered", rounded(p50), rounded(longest))
	case p50 >= latencyWarning:
		return doubtful(near, text+": an event waits for three before it is answered", rounded(p50), rounded(longest))
	case longest >= latencyError:
		return doubtful(near, text+": deliveries stop for so long", rounded(p50), rounded(longest))
	}
	return fine(text+" (an event waits for three)", rounded(p50), rounded(longest))
}

// Differences of clocks from which on there is a warning or an error. Beyond 25 s
// between senders running tasks are taken from each other.
const (
	clockWarning = 2 * time.Second
	clockError   = 20 * time.Second
	clockReads   = 5 // the quickest counts
)

func checkClock(ctx context.Context, p *patient) (Finding, error) {
	var ahead, uncertain time.Duration
	for i := range clockReads {
		began := p.Now()
		redis, err := p.Client.Time(ctx).Result()
		if err != nil {
			return Finding{}, err
		}
		took := p.Now().Sub(began)
		if i == 0 || took/2 < uncertain {
			ahead, uncertain = began.Add(took/2).Sub(redis), took/2
		}
	}
	return judgeClock("this machine's clock", ahead).with(map[string]any{"ahead_ms": ms(ahead), "uncertainty_ms": ms(uncertain)}), nil
}

func judgeClock(whose string, ahead time.Duration) Finding {
	const ntp = "synchronise the clocks of all machines (NTP)"
	side := "ahead of"
	if ahead < 0 {
		side = "behind"
	}
	switch off := ahead.Abs(); {
	case off >= clockError:
		return bad(ntp, "%s is %v %s that of Redis: beyond 25 s between senders, running tasks are taken from each other and delivered twice", whose, rounded(off), side)
	case off >= clockWarning:
		return doubtful(ntp, "%s is %v %s that of Redis: retries come too early or late", whose, rounded(off), side)
	default:
		return fine("%s is %v %s that of Redis", whose, rounded(off), side)
	}
}

// checkClocks compares what processes said about their own clocks. An
// announcement is on its way for a moment, within core's bounds of a second.
func checkClocks(ctx context.Context, p *patient) (Finding, error) {
	a, err := p.readProcesses(ctx)
	if err != nil {
		return Finding{}, err
	}
	if len(a.processes) == 0 {
		return fine("no process has announced itself"), nil
	}
	var worst Finding
	var most time.Duration
	for i := range a.processes {
		proc := &a.processes[i]
		ahead := proc.AnnouncedAt.Sub(proc.SeenAt)
		if i == 0 || ahead.Abs() > most.Abs() {
			most, worst = ahead, judgeClock("the clock of "+nameOf(proc), ahead)
		}
	}
	return worst.with(map[string]any{"ahead_ms": ms(most)}), nil
}

// ms returns milliseconds with three digits behind the point.
func ms(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// rounded drops digits that say nothing.
func rounded(d time.Duration) time.Duration {
	if d.Abs() < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(10 * time.Microsecond)
}

var errNoQueues = errors.New("there are no queues")
