package sender

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

const (
	// maxTroubled bounds the endpoints that are told apart in one span.
	maxTroubled = 128

	// troubleSpan is how long failures are added up, and how often those of the
	// last span are logged.
	troubleSpan = time.Minute

	// slowAfter is how long an attempt takes that counts as slow.
	slowAfter = time.Second

	// troublesLogged is how many endpoints the log line names.
	troublesLogged = 5
)

// Trouble is what went wrong at one endpoint.
type Trouble struct {
	Organization string      `json:"organization"`
	Endpoint     string      `json:"endpoint"`
	Failed       int         `json:"failed"`          // attempts
	Slow         int         `json:"slow"`            // attempts that took a second or longer, failed ones too
	Slowest      float64     `json:"slowest_seconds"` // the longest of the attempts counted here
	Reason       core.Reason `json:"last_reason"`     // of the last failure; "" if none failed
	Status       int         `json:"last_status"`     // of the last response; 0: there was none
	Missed       int         `json:"missed_at_most"`  // attempts that were not counted because others had its place
	attempts     int         // failed or slow, and Missed: what places are given by
}

// Top is the endpoints with the most failed and slow attempts, worst first.
type Top struct {
	Since     time.Time `json:"since"`
	Endpoints []Trouble `json:"endpoints"`
}

// troubles counts failed and slow attempts by endpoint in a fixed number of
// places, so that nothing has to be labelled by endpoint. It is a space-saving
// counter (Metwally, Agrawal, El Abbadi 2005): whoever comes new when all places
// are taken gets that of the least troubled one, and with it the doubt how many
// attempts of its own went uncounted. An endpoint with more than 1/maxTroubled of
// all counted attempts always has a place.
//
// Attempts that succeed quickly do not come here.
type troubles struct {
	mu            sync.Mutex
	current, last span
}

// span is what went wrong since a time.
type span struct {
	since  time.Time
	places []Trouble
	index  map[string]int // endpoint id → place
}

func newTroubles(now time.Time) *troubles {
	return &troubles{current: newSpan(now), last: newSpan(now)}
}

func newSpan(since time.Time) span { return span{since: since, index: make(map[string]int)} }

// note counts an attempt if it failed or was slow.
func (t *troubles) note(v *verdict, res *egress.Result) {
	failed, slow := v.reason != "", v.row.Latency >= slowAfter
	if !failed && !slow {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.current.place(v.delivery.Organization, v.delivery.Endpoint)
	p.attempts++
	p.Slowest, p.Status = max(p.Slowest, v.row.Latency.Seconds()), res.Status
	if failed {
		p.Failed++
		p.Reason = v.reason
	}
	if slow {
		p.Slow++
	}
}

// place returns the place of an endpoint, which may be new or another's so far.
func (s *span) place(organization, endpoint string) *Trouble {
	if i, ok := s.index[endpoint]; ok {
		return &s.places[i]
	}
	i := len(s.places)
	if i < maxTroubled {
		s.places = append(s.places, Trouble{})
	} else {
		i = s.least()
		delete(s.index, s.places[i].Endpoint)
	}
	missed := s.places[i].attempts
	s.places[i] = Trouble{Organization: organization, Endpoint: endpoint, Missed: missed, attempts: missed}
	s.index[endpoint] = i
	return &s.places[i]
}

func (s *span) least() int {
	least := 0
	for i := range s.places {
		if s.places[i].attempts < s.places[least].attempts {
			least = i
		}
	}
	return least
}

// turn begins a new span and returns the one that ended, worst first.
func (t *troubles) turn(now time.Time) []Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.current = t.current, newSpan(now)
	return worstFirst(slices.Clone(t.last.places))
}

// top returns the n worst of the last span and the current one.
func (t *troubles) top(n int) Top {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := slices.Clone(t.last.places)
	for i := range t.current.places {
		p := &t.current.places[i]
		k, ok := t.last.index[p.Endpoint]
		if !ok {
			sum = append(sum, *p)
			continue
		}
		q := &sum[k]
		q.Failed, q.Slow, q.Missed, q.attempts = q.Failed+p.Failed, q.Slow+p.Slow, q.Missed+p.Missed, q.attempts+p.attempts
		q.Slowest, q.Status = max(q.Slowest, p.Slowest), p.Status
		q.Reason = cmp.Or(p.Reason, q.Reason)
	}
	sum = worstFirst(sum)
	return Top{Since: t.last.since, Endpoints: sum[:min(max(n, 0), len(sum))]}
}

// worstFirst sorts ts by what was counted.
func worstFirst(ts []Trouble) []Trouble {
	slices.SortFunc(ts, func(a, b Trouble) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(b.Slow, a.Slow), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return ts
}

// Top returns the n endpoints that failed and were slow most often in the last
// one to two minutes.
func (s *Sender) Top(n int) Top { return s.troubles.top(n) }

// Report logs once a minute at which endpoints attempts failed, if any did, until
// ctx ends. It returns nil.
func (s *Sender) Report(ctx context.Context) error {
	ticker := time.NewTicker(troubleSpan)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.report(ctx, s.troubles.turn(s.now()))
		}
	}
}

func (s *Sender) report(ctx context.Context, worst []Trouble) {
	failed := 0
	for i := range worst {
		failed += worst[i].Failed
	}
	if failed == 0 {
		return
	}
	s.logger.LogAttrs(ctx, slog.LevelWarn, "attempts failed in the last minute",
		slog.Int("failed", failed), slog.Int("endpoints", len(worst)),
		slog.Any("worst", worst[:min(troublesLogged, len(worst))]))
}
