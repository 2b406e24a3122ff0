package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
)

// The roles of processes that announce themselves.
const (
	roleGateway = "gateway"
	roleSender  = "sender"
	roleDev     = "dev" // both in one
)

// nameOf tells processes apart for people.
func nameOf(p *redisstore.Process) string { return fmt.Sprintf("%s %d on %s", p.Role, p.PID, p.Host) }

func checkSenders(ctx context.Context, p *patient) (Finding, error) {
	senders, err := p.readSenders()
	if err != nil {
		return Finding{}, err
	}
	queues, err := p.readQueues(ctx)
	if err != nil {
		return Finding{}, err
	}
	bundles := 0
	for _, s := range senders {
		bundles += s.Bundles
	}
	values := map[string]any{"senders": len(senders), "bundles": bundles}
	if len(senders) == 0 {
		return bad("start sender serve", "no sender is alive: nothing is delivered").with(values), nil
	}
	var idle []string
	for i := range queues {
		served := slices.ContainsFunc(senders, func(s queue.Sender) bool { return slices.Contains(s.Queues, queues[i].Queue) })
		if !served {
			idle = append(idle, queues[i].Queue)
		}
	}
	if len(idle) > 0 {
		return bad("start more senders of the version that gateways have", "nobody takes tasks from %s", strings.Join(idle, ", ")).with(values), nil
	}
	return fine("%s, all %d queues are served, by up to %s at a time", count(len(senders), "sender"), len(queues), count(bundles, "bundle")).with(values), nil
}

func checkGateways(ctx context.Context, p *patient) (Finding, error) {
	a, err := p.readProcesses(ctx)
	if err != nil {
		return Finding{}, err
	}
	n := 0
	for i := range a.processes {
		if role := a.processes[i].Role; role == roleGateway || role == roleDev {
			n++
		}
	}
	if n == 0 {
		return doubtful("start gateway serve; one of an older version is not seen here", "no gateway has announced itself").with(map[string]any{"gateways": n}), nil
	}
	return fine("%s", count(n, "gateway")).with(map[string]any{"gateways": n}), nil
}

// checkAgreement compares the processes with each other, and this machine's
// master keys with theirs.
func checkAgreement(ctx context.Context, p *patient) (Finding, error) {
	a, err := p.readProcesses(ctx)
	if err != nil {
		return Finding{}, err
	}
	senders, err := p.readSenders()
	if err != nil {
		return Finding{}, err
	}
	if len(a.processes) == 0 && len(senders) == 0 {
		return fine("no process runs"), nil
	}
	var fatal, odd []string
	if shards := values(a.processes, func(p *redisstore.Process) string { return fmt.Sprint(p.Shards) }); len(shards) > 1 {
		fatal = append(fatal, fmt.Sprintf("numbers of deliver queues (%s)", strings.Join(shards, ", ")))
	}
	fatal = append(fatal, disagreeingKeys(a.processes)...)
	if versions := values(a.processes, func(p *redisstore.Process) string { return p.Version }); len(versions) > 1 {
		odd = append(odd, fmt.Sprintf("versions (%s)", strings.Join(versions, ", ")))
	}
	if first := values(a.processes, func(p *redisstore.Process) string { return firstOf(p.MasterKeys) }); len(first) > 1 {
		odd = append(odd, fmt.Sprintf("first master keys (%s)", strings.Join(first, ", ")))
	}
	odd = append(odd, disagreeingSettings(a.processes)...)
	if unseen := unannounced(a.processes, senders); unseen > 0 || a.unreadable > 0 {
		odd = append(odd, fmt.Sprintf("%s of another version", count(unseen+a.unreadable, "process")))
	}
	if p.Keyring != nil && !sameKeys(a.processes, p.Keyring.Fingerprints()) {
		odd = append(odd, "master keys of doctor and of the processes")
	}
	data := map[string]any{"processes": describe(a.processes), "disagreements": len(fatal) + len(odd)}
	switch {
	case len(fatal) > 0:
		return bad("give all gateways and senders the same settings and restart them; what they disagree on now is held or never delivered", "different: %s", strings.Join(append(fatal, odd...), "; ")).with(data), nil
	case len(odd) > 0:
		return doubtful("harmless during a rolling change; else give all processes the same", "different: %s", strings.Join(odd, "; ")).with(data), nil
	}
	return fine("%s of one version with the same settings", count(len(a.processes), "process")).with(data), nil
}

// description is what the report tells machines about a process.
type description struct {
	Role        string `json:"role"`
	Host        string `json:"host"`
	PID         int    `json:"pid"`
	Version     string `json:"version"`
	Shards      int    `json:"shards"`
	Concurrency int    `json:"concurrency,omitempty"`
}

func describe(processes []redisstore.Process) []description {
	list := make([]description, len(processes))
	for i := range processes {
		p := &processes[i]
		list[i] = description{p.Role, p.Host, p.PID, p.Version, p.Shards, p.Concurrency}
	}
	return list
}

// values returns the different values of a property, sorted.
func values(processes []redisstore.Process, of func(*redisstore.Process) string) []string {
	var all []string
	for i := range processes {
		if v := of(&processes[i]); v != "" {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func firstOf(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// disagreeingKeys tells which master keys not all processes have. What one
// process makes with them another one cannot sign.
func disagreeingKeys(processes []redisstore.Process) []string {
	holders := make(map[string]int)
	for i := range processes {
		for _, key := range distinct(processes[i].MasterKeys) {
			holders[key]++
		}
	}
	var partial []string
	for _, key := range slices.Sorted(maps.Keys(holders)) {
		if holders[key] < len(processes) {
			partial = append(partial, fmt.Sprintf("master key %s is known to %d of %d processes", key, holders[key], len(processes)))
		}
	}
	return partial
}

// disagreeingSettings tells which settings differ, with their values: none of
// them is secret.
func disagreeingSettings(processes []redisstore.Process) []string {
	names := make(map[string]bool)
	for i := range processes {
		for name := range processes[i].Settings {
			names[name] = true
		}
	}
	var differ []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		seen := make(map[string]bool)
		for i := range processes {
			if v, ok := processes[i].Settings[name]; ok { // gateways and senders have some of their own
				seen[fmt.Sprintf("%q", v)] = true
			}
		}
		if len(seen) > 1 {
			differ = append(differ, fmt.Sprintf("%s (%s)", name, strings.Join(slices.Sorted(maps.Keys(seen)), ", ")))
		}
	}
	return differ
}

// unannounced counts the senders that asynq shows and that did not announce
// themselves.
func unannounced(processes []redisstore.Process, senders []queue.Sender) int {
	n := 0
	for _, s := range senders {
		known := slices.ContainsFunc(processes, func(p redisstore.Process) bool {
			return p.PID == s.PID && p.Host == s.Host && (p.Role == roleSender || p.Role == roleDev)
		})
		if !known {
			n++
		}
	}
	return n
}

// sameKeys reports whether every process has exactly the given master keys.
func sameKeys(processes []redisstore.Process, own []string) bool {
	own = slices.Sorted(slices.Values(own))
	for i := range processes {
		if !slices.Equal(own, slices.Sorted(slices.Values(processes[i].MasterKeys))) {
			return false
		}
	}
	return true
}
