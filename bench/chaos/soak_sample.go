package main

import (
	"context"

	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

const mib = 1 << 20

// sample notes what each series is now.
func (s *soaking) sample(ctx context.Context) error {
	s.do("sampling")
	s.notePeaks()
	values := make(map[string]float64)
	for name, p := range s.elders {
		for _, m := range []struct {
			series, metric string
			unit           float64
		}{
			{rssOf, "process_resident_memory_bytes", mib}, // as the round left it
			{heapOf, "go_memstats_heap_alloc_bytes", mib},
			{goroutinesOf, "go_goroutines", 1},
			{filesOf, "process_open_fds", 1},
		} {
			if m.series == heapOf {
				if err := collectGarbage(ctx, p); err != nil {
					return err
				}
			}
			v, err := metric(ctx, p, m.metric)
			if err != nil {
				return err
			}
			values[m.series+name] = v / m.unit
		}
	}
	if err := s.sampleRedis(ctx, values); err != nil {
		return err
	}
	s.report.add(time.Since(s.begin), values)
	return nil
}

// collectGarbage has a program do so, that only what is in use is counted.
func collectGarbage(ctx context.Context, p *lab.Process) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Admin+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (s *soaking) sampleRedis(ctx context.Context, values map[string]float64) error {
	stack := s.w.stack
	families := make(map[string]int)
	for cursor := uint64(0); ; {
		keys, next, err := stack.Client.Scan(ctx, cursor, "*", 1000).Result()
		if err != nil {
			return err
		}
		for _, key := range keys {
			families[family(key)]++
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	for name, n := range families {
		series := restKeys
		if bounded, ok := expiring()[name]; ok {
			series = bounded
		}
		values[series] += float64(n)
	}
	s.report.Families = append(s.report.Families, families)
	for _, m := range []struct {
		series, section, field string
		unit                   float64
	}{
		{redisMemory, "memory", "used_memory", mib},
		{redisClients, "clients", "connected_clients", 1},
	} {
		n, err := stack.RedisInfo(ctx, m.section, m.field)
		if err != nil {
			return err
		}
		values[m.series] = float64(n) / m.unit
	}
	n, err := stack.Client.DBSize(ctx).Result()
	values[allKeys] = float64(n)
	return err
}

// expiring says which families of keys are bounded by a lifetime, and not by the work
// that is left: as long as a soak lasts they grow.
func expiring() map[string]string {
	return map[string]string{
		"sp:{org}:idem":               idemKeys,                                       // 24 h
		"sp:{queue}:bundle:done":      doneKeys,                                       // 5 min, or 2 h where asynq ended the task
		"asynq:{queue}:processed:day": statKeys, "asynq:{queue}:failed:day": statKeys, // two a queue and day, for 90 days
	}
}

// family returns the pattern of a key: what is an id in it is left out, so that the
// families are few.
func family(key string) string {
	head, rest, ok := strings.Cut(key, "{")
	slot, tail, closed := strings.Cut(rest, "}")
	if !ok || !closed {
		name, _, _ := strings.Cut(strings.TrimPrefix(key, "sp:"), ":")
		if name == "key" {
			return "sp:key"
		}
		return key // one of a kind: sp:keys, asynq:queues
	}
	kind, _, named := strings.Cut(slot, ":")
	if !named || head != "sp:" {
		kind = "queue"
	}
	parts := strings.Split(strings.TrimPrefix(tail, ":"), ":")
	name := head + "{" + kind + "}:" + parts[0]
	switch {
	case parts[0] == "bundle" && parts[len(parts)-1] == "done":
		name += ":done"
	case (parts[0] == "processed" || parts[0] == "failed") && len(parts) == 2:
		name += ":day"
	case parts[0] == "dead" && len(parts) == 2:
		name += ":index"
	}
	return name
}

// notePeaks keeps the largest resident set of each process so far.
func (s *soaking) notePeaks() {
	for _, p := range s.w.stack.Processes() {
		if p != nil {
			s.report.peak(p.Name, float64(p.PeakMemory())/mib)
		}
	}
	var self syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &self) == nil {
		s.report.peak(harness, float64(self.Maxrss)/1024) // KiB on Linux
	}
}

// ceiling returns how much memory a process may take at most, in MiB, 0 where nothing
// is promised. docs/RELIABILITY.md has the derivation.
func ceiling(name string) float64 {
	const (
		collector = 2  // the heap grows to twice what is in use before it is collected
		program   = 32 // code, metrics, stacks, buffers of a few hundred connections
	)
	switch {
	case name == harness:
		return 2048
	case strings.HasPrefix(name, "gateway"):
		return collector * (program + 128 + 64) // request bodies, events that wait for their flush
	case strings.HasPrefix(name, "sender"):
		const queues, bundles, bundle, drains, page = 6, 64, 0.5, 4, 4
		return collector * (program + queues*bundles*bundle + drains*page)
	}
	return 0
}

const harness = "chaos"
