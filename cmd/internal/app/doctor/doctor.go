// Package doctor finds out what is wrong with a running Sealpost: with its
// Redis, its keys, its queues, its processes and its settings. It changes
// nothing, reads a bounded amount however much Redis holds, and shows no
// secrets. docs/DIAGNOSIS.md lists every check with its bounds.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/core/sign"
	"github.com/sealpost/sealpost/redisstore"
)

// checkTimeout bounds one check; there are some thirty.
const checkTimeout = 5 * time.Second

// Status is what a check found.
type Status string

// The statuses, from harmless to bad.
const (
	StatusOK      Status = "ok"
	StatusSkipped Status = "skipped" // could not be checked, for the reason of another error
	StatusWarning Status = "warning"
	StatusError   Status = "error"
)

// Finding is what one check found. The JSON form is documented and stable.
type Finding struct {
	Check  string         `json:"check"`
	Status Status         `json:"status"`
	Detail string         `json:"detail"`           // what was found, one line
	Advice string         `json:"advice,omitempty"` // what to do, one line
	Values map[string]any `json:"values,omitempty"` // the numbers behind it
}

// Report is what all checks found.
type Report struct {
	Status    Status    `json:"status"` // the worst of all
	Version   string    `json:"version"`
	CheckedAt time.Time `json:"checked_at"`
	Errors    int       `json:"errors"`
	Warnings  int       `json:"warnings"`
	Checks    []Finding `json:"checks"`
}

// Options are what the checks need. Client, Store and Queues speak to the same
// Redis and stay the caller's.
type Options struct {
	Client redis.UniversalClient
	Store  *redisstore.Store
	Queues *queue.Collector
	Now    func() time.Time // nil: time.Now

	Addresses    []string // of Redis, without user and password
	Password     bool     // Redis is given one
	TLS          bool     // Redis is reached over TLS
	Keyring      *sign.Keyring
	KeyringError error  // why there is no Keyring
	KeysFile     string // where the master keys came from; "": not from a file
	KeyFiles     []File // others with secrets in them

	Durability       string // as this machine's environment has it
	AllowHTTP        bool   // as this machine's environment has it
	AllowNets        []netip.Prefix
	AdminListen      string
	UnknownVariables []string // of the environment: SEALPOST_ and something that nobody reads
}

// check is an entry of the table: one question with one answer.
type check struct {
	name      string
	needRedis bool // skipped when Redis does not answer
	run       func(context.Context, *patient) (Finding, error)
}

// reachable is the check on which most others depend.
const reachable = "redis.reachable"

// table lists the checks in the order in which they are made and shown.
func table() []check {
	return []check{
		{reachable, false, checkReachable},
		{"redis.version", true, checkVersion},
		{"redis.role", true, checkRole},
		{"redis.eviction", true, checkEviction},
		{"redis.persistence", true, checkPersistence},
		{"redis.durability", true, checkDurability},
		{"redis.tuning", true, checkTuning},
		{"redis.memory", true, checkMemory},
		{"redis.latency", true, checkLatency},
		{"redis.clock", true, checkClock},
		{"redis.access", false, checkAccess},
		{"keys.master", false, checkMasterKeys},
		{"keys.file", false, checkKeysFile},
		{"keys.secrets", true, checkSecrets},
		{"keys.api", true, checkAPIKeys},
		{"queue.backlog", true, checkBacklog},
		{"queue.paused", true, checkPaused},
		{"queue.archived", true, checkArchived},
		{"queue.running", true, checkRunning},
		{"queue.bundles", true, checkBundles},
		{"backlogs.overdue", true, checkOverdue},
		{"backlogs.size", true, checkBacklogs},
		{"processes.senders", true, checkSenders},
		{"processes.gateways", true, checkGateways},
		{"processes.agreement", true, checkAgreement},
		{"processes.clocks", true, checkClocks},
		{"settings.targets", false, checkTargets},
		{"settings.admin", false, checkAdmin},
		{"settings.variables", false, checkVariables},
	}
}

// Names lists the checks in their order.
func Names() []string {
	names := make([]string, 0, len(table()))
	for _, c := range table() {
		names = append(names, c.name)
	}
	return names
}

// Run makes all checks, one after the other. A check that fails to find
// something out is an error of the report.
func Run(ctx context.Context, o Options) Report {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &patient{Options: o}
	r := Report{Status: StatusOK, Version: core.Version, CheckedAt: o.Now().UTC().Truncate(time.Millisecond)}
	for _, c := range table() {
		f := p.examine(ctx, &c)
		if c.name == reachable {
			p.dead = f.Status == StatusError
		}
		switch f.Status {
		case StatusError:
			r.Errors++
			r.Status = StatusError
		case StatusWarning:
			r.Warnings++
			if r.Status == StatusOK {
				r.Status = StatusWarning
			}
		}
		r.Checks = append(r.Checks, f)
	}
	return r
}

func (p *patient) examine(ctx context.Context, c *check) Finding {
	if c.needRedis && p.dead {
		return Finding{Check: c.name, Status: StatusSkipped, Detail: "needs Redis"}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	f, err := c.run(ctx, p)
	if err != nil {
		f = bad("see whether Redis is overloaded, and whether the user of SEALPOST_REDIS_URL may run every command", "could not be checked: %v", cause(err))
	}
	f.Check = c.name
	return f
}

// cause leaves out of a store's error what is meant for API callers.
func cause(err error) error {
	var e *core.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err
	}
	return err
}

// patient is what the checks look at. What several of them need is read once.
type patient struct {
	Options
	dead        bool // Redis does not answer
	servers     memo[[]redisstore.Server]
	inspections memo[[]queue.Inspection]
	backlogs    memo[core.BacklogOverview]
	senders     memo[[]queue.Sender]
	announced   memo[announced]
}

// announced is what processes tell about themselves.
type announced struct {
	processes  []redisstore.Process
	unreadable int
}

// memo remembers what a reading brought.
type memo[T any] struct {
	read  bool
	value T
	err   error
}

func (m *memo[T]) get(read func() (T, error)) (T, error) {
	if !m.read {
		m.value, m.err = read()
		m.read = true
	}
	return m.value, m.err
}

func (p *patient) readServers(ctx context.Context) ([]redisstore.Server, error) {
	return p.servers.get(func() ([]redisstore.Server, error) { return p.Store.Servers(ctx) })
}

func (p *patient) readQueues(ctx context.Context) ([]queue.Inspection, error) {
	return p.inspections.get(func() ([]queue.Inspection, error) { return p.Queues.Inspect(ctx) })
}

func (p *patient) readBacklogs(ctx context.Context) (core.BacklogOverview, error) {
	return p.backlogs.get(func() (core.BacklogOverview, error) { return p.Store.BacklogOverview(ctx) })
}

func (p *patient) readSenders() ([]queue.Sender, error) { return p.senders.get(p.Queues.Senders) }

func (p *patient) readProcesses(ctx context.Context) (announced, error) {
	return p.announced.get(func() (announced, error) {
		processes, unreadable, err := p.Store.Processes(ctx)
		return announced{processes, unreadable}, err
	})
}

func fine(format string, args ...any) Finding {
	return Finding{Status: StatusOK, Detail: fmt.Sprintf(format, args...)}
}

func doubtful(advice, format string, args ...any) Finding {
	return Finding{Status: StatusWarning, Detail: fmt.Sprintf(format, args...), Advice: advice}
}

func bad(advice, format string, args ...any) Finding {
	return Finding{Status: StatusError, Detail: fmt.Sprintf(format, args...), Advice: advice}
}

// with adds the numbers behind a finding.
func (f Finding) with(values map[string]any) Finding {
	f.Values = values
	return f
}
