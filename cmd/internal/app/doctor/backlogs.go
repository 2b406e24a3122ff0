package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/cmd/internal/app/units"
	"github.com/sealpost/sealpost/core"
)

// backlogsOverdue is from when on a look at a backlog is overdue: a sender that
// has room looks within two seconds after the time.
const backlogsOverdue = 30 * time.Second

// What in the backlogs of all endpoints is a warning: bytes as a part of the memory
// of Redis, and deliveries. Frames take more memory than their bytes, and from
// memoryError on everybody's events are refused.
const (
	backlogsLarge = 0.25
	backlogsMany  = 1_000_000
)

func checkOverdue(ctx context.Context, p *patient) (Finding, error) {
	v, err := p.readBacklogs(ctx)
	if err != nil {
		return Finding{}, err
	}
	values := map[string]any{"endpoints": v.Endpoints, "claimed": v.Claimed, "overdue_ms": ms(v.Overdue)}
	if v.Overdue >= backlogsOverdue {
		return bad("see processes.senders; if one is alive, its log says why it does not look (`backlogs could not be looked at`), or it works as many off as it can (sealpost_sender_drains): start more",
			"the backlog that is due first has been waiting for %v to be looked at: backlogs are not worked off", v.Overdue.Round(time.Second)).with(values), nil
	}
	return fine("of %s none is overdue, %d are being worked off", count(v.Endpoints, "backlog"), v.Claimed).with(values), nil
}

func checkBacklogs(ctx context.Context, p *patient) (Finding, error) {
	v, err := p.readBacklogs(ctx)
	if err != nil {
		return Finding{}, err
	}
	servers, err := p.readServers(ctx)
	if err != nil {
		return Finding{}, err
	}
	var limit int64 // the least: any of the masters may hold the backlogs
	for i := range servers {
		if n := servers[i].Limit; n > 0 && (limit == 0 || n < limit) {
			limit = n
		}
	}
	return judgeBacklogs(&v, limit), nil
}

func judgeBacklogs(v *core.BacklogOverview, limit int64) Finding {
	const less = "find the endpoints (GET /top of a sender, `state` and `backlog` in the API), get their owners to act, or disable them with what is held dropped; a shorter SEALPOST_BACKLOG_RETENTION holds less"
	values := map[string]any{"deliveries": v.Deliveries, "bytes": v.Bytes, "endpoints_not_active": v.Conditions}
	for state, n := range v.ByState {
		values[string(state)] = n
	}
	text := fmt.Sprintf("%d deliveries (%s) wait for %s", v.Deliveries, units.Bytes(v.Bytes), count(v.Endpoints, "endpoint"))
	f := fine("%s", text)
	switch {
	case limit > 0 && float64(v.Bytes) >= backlogsLarge*float64(limit):
		f = doubtful(less, "%s: %.0f %% of the memory of Redis, and from %.0f %% on new events are refused", text, 100*float64(v.Bytes)/float64(limit), 100*memoryError)
	case v.Deliveries >= backlogsMany:
		f = doubtful(less, "%s, more than %d", text, backlogsMany-1)
	}
	return f.with(values)
}
