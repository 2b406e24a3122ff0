package redisstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	announceInterval = 15 * time.Second
	announceTimeout  = 2 * time.Second // of one announcement
	announceLifetime = 3 * announceInterval

	maxProcesses      = 256     // announced at the same time
	maxProcessBytes   = 8 << 10 // of one announcement
	processesLifetime = 24 * time.Hour
)

// Process is what a running gateway or sender tells the operators about itself.
// It holds no secrets: master keys are named by their fingerprints.
type Process struct {
	ID          string    `json:"id"`   // random, one a start
	Role        string    `json:"role"` // gateway, sender, or dev for both in one
	Version     string    `json:"version"`
	Host        string    `json:"host"`
	PID         int       `json:"pid"`
	StartedAt   time.Time `json:"started_at"`
	AnnouncedAt time.Time `json:"announced_at"` // by the process's own clock
	Listen      string    `json:"listen,omitempty"`
	AdminListen string    `json:"admin_listen"`
	Shards      int       `json:"shards"`                // deliver queues that it fills or empties
	Concurrency int       `json:"concurrency,omitempty"` // attempts in flight, of senders
	MasterKeys  []string  `json:"master_keys"`           // fingerprints, the first derives new secrets

	// Settings are those that all processes ought to have in common, by variable.
	Settings map[string]string `json:"settings"`

	// Own is where its listeners and Redis are, which no delivery may reach.
	Own []netip.AddrPort `json:"own,omitempty"`

	// SeenAt is the time of the last announcement by the clock of Redis.
	SeenAt time.Time `json:"-"`
}

// announceScript keeps a process's announcement and drops those that are over.
// Redis 7.0 has no lifetime for a field of a hash, so each value begins with the
// time at which it was written.
//
// KEYS: processesKey. ARGV: id, announcement, its lifetime in ms, most entries,
// lifetime of the hash in ms.
// Reply: 1 kept; 0 no room.
var announceScript = redis.NewScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local entries = redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
	local seen = tonumber(string.match(entries[i+1], '^%d+'))
	if not seen or now - seen > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], entries[i]) end
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
`)

// Announce tells what p is every 15 seconds until ctx ends, and takes it back
// then. It returns nil: operators miss an announcement, deliveries do not.
func (s *Store) Announce(ctx context.Context, p Process) error {
	ticker := time.NewTicker(announceInterval)
	defer ticker.Stop()
	failed := false
	for {
		err := s.announce(ctx, p)
		if err != nil && !failed && ctx.Err() == nil {
			s.log.Warn("process is not announced: doctor does not see it", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			s.withdraw(context.WithoutCancel(ctx), p.ID)
			return nil
		case <-ticker.C:
		}
	}
}

func (s *Store) announce(ctx context.Context, p Process) error {
	defer s.metrics.took(opAnnounce, time.Now())
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	p.AnnouncedAt = s.now().UTC()
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode process: %w", err)
	}
	if len(text) > maxProcessBytes {
		return fmt.Errorf("an announcement of %d bytes is longer than %d", len(text), maxProcessBytes)
	}
	reply, err := announceScript.Run(ctx, s.client, []string{processesKey}, p.ID, text,
		announceLifetime.Milliseconds(), maxProcesses, processesLifetime.Milliseconds()).Int()
	if err == nil && reply == 0 {
		return fmt.Errorf("%d processes are announced, which is the limit", maxProcesses)
	}
	return s.fail(opAnnounce, err)
}

// withdraw takes an announcement back. One that stays is over after 45 seconds.
func (s *Store) withdraw(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	if err := s.client.HDel(ctx, processesKey, id).Err(); err != nil {
		s.metrics.failed(opAnnounce)
	}
}

// Processes returns the processes that announced themselves within the last 45
// seconds, gateways first, the oldest first. Announcements that this version
// cannot read are counted.
func (s *Store) Processes(ctx context.Context) (processes []Process, unreadable int, err error) {
	defer s.metrics.took(opReadProcesses, time.Now())
	pipe := s.client.Pipeline()
	entries, clock := pipe.HGetAll(ctx, processesKey), pipe.Time(ctx)
	_, _ = pipe.Exec(ctx) // its error is one of the replies'
	if err := errors.Join(entries.Err(), clock.Err()); err != nil {
		return nil, 0, s.fail(opReadProcesses, err)
	}
	for id, entry := range entries.Val() {
		p, err := decodeProcess(entry)
		switch {
		case err != nil || p.ID != id:
			unreadable++
		case clock.Val().Sub(p.SeenAt) <= announceLifetime:
			processes = append(processes, p)
		}
	}
	slices.SortFunc(processes, func(a, b Process) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return processes, unreadable, nil
}

func decodeProcess(entry string) (Process, error) {
	seen, text, _ := strings.Cut(entry, " ")
	ms, err := strconv.ParseInt(seen, 10, 64)
	if err != nil {
		return Process{}, fmt.Errorf("decode process: %w", err)
	}
	var p Process
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return Process{}, fmt.Errorf("decode process: %w", err)
	}
	p.SeenAt = time.UnixMilli(ms)
	return p, nil
}
