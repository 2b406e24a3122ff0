package top

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
)

// look is what all processes and Redis said at one time.
type look struct {
	at        time.Time
	processes map[string]scrape // by address

	queues   []queue.QueueStats
	servers  []redisstore.Server
	backlogs core.BacklogOverview
	redisErr error

	worst    []trouble // endpoints, worst first
	worstErr error     // nil and no rows: there are none
}

// errNotAvailable says that a sender has no list of endpoints.
var errNotAvailable = errors.New("not available")

// lookAround asks everybody at the same time and returns when all have answered
// or ctx is over.
func (v *view) lookAround(ctx context.Context) look {
	l := look{processes: make(map[string]scrape, len(v.addresses)), worstErr: errNotAvailable}
	var mu sync.Mutex // guards the maps and slices of l
	var wg sync.WaitGroup
	for _, address := range v.addresses {
		wg.Go(func() {
			s := fetch(ctx, v.client, address)
			mu.Lock()
			defer mu.Unlock()
			l.processes[address] = s
		})
	}
	for _, address := range v.o.Senders {
		wg.Go(func() {
			rows, err := fetchWorst(ctx, v.client, address)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				l.worst, l.worstErr = append(l.worst, rows...), nil
			} else if !errors.Is(err, errNotAvailable) && l.worstErr != nil {
				l.worstErr = err
			}
		})
	}
	wg.Go(func() {
		queues, err := v.o.Queues.Stats(ctx)
		var servers []redisstore.Server
		if err == nil {
			servers, err = v.o.Store.Servers(ctx)
		}
		var backlogs core.BacklogOverview
		if err == nil {
			backlogs, err = v.o.Store.BacklogOverview(ctx)
		}
		mu.Lock()
		defer mu.Unlock()
		l.queues, l.servers, l.backlogs, l.redisErr = queues, servers, backlogs, err
	})
	wg.Wait()
	l.worst = merge(l.worst)
	l.at = time.Now()
	return l
}
