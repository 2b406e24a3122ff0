package redisstore

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

func process(id, role string) Process {
	return Process{
		ID: id, Role: role, Version: "1.2.3", Host: "host", PID: 7, StartedAt: instant(0), AdminListen: "127.0.0.1:9090",
		Own: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9090"), netip.MustParseAddrPort("[fd00::1]:6379")}, Shards: 4, MasterKeys: []string{"k1:01234567"}, Settings: map[string]string{"SEALPOST_MAX_PAYLOAD": "256KiB"},
	}
}

// TestAnnounce follows a process from its first announcement to its end.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		noError(t, s.announce(t.Context(), process("b", "sender")))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Announce(ctx, process("a", "gateway")) }()
		var got []Process
		for len(got) < 2 {
			var err error
			got, _, err = s.Processes(t.Context())
			noError(t, err)
		}
		for i, want := range []Process{process("a", "gateway"), process("b", "sender")} {
			if skew := got[i].SeenAt.Sub(got[i].AnnouncedAt).Abs(); skew > time.Minute {
				t.Errorf("announced at %v, seen at %v", got[i].AnnouncedAt, got[i].SeenAt)
			}
			got[i].SeenAt, got[i].AnnouncedAt = time.Time{}, time.Time{}
			if diff := cmp.Diff(want, got[i], cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("process %d (-want +got):\n%s", i, diff)
			}
		}
		stop()
		noError(t, <-ended)
		if got, _, err := s.Processes(t.Context()); err != nil || len(got) != 1 || got[0].ID != "b" {
			t.Errorf("after the gateway's end: %v, %v", got, err)
		}
	})
}

// TestAnnouncementsAreBounded: those that are over go, what cannot be read is
// counted, and there is a limit to all.
func TestAnnouncementsAreBounded(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	old := strconv.FormatInt(time.Now().Add(-announceLifetime-time.Minute).UnixMilli(), 10)
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	noError(t, client.HSet(ctx, processesKey, "gone", old+` {"id":"gone"}`, "newer", now+` {"id":7}`, "bad", "x").Err())
	got, unreadable, err := s.Processes(ctx)
	if err != nil || len(got) != 0 || unreadable != 2 {
		t.Errorf("%v, %d unreadable, %v; want none and 2", got, unreadable, err)
	}
	noError(t, s.announce(ctx, process("a", "gateway")))
	if fields := client.HKeys(ctx, processesKey).Val(); len(fields) != 2 {
		t.Errorf("%v are left; want those of now", fields)
	}
	if life := client.PTTL(ctx, processesKey).Val(); life <= 0 || life > processesLifetime {
		t.Errorf("the hash lives for %v", life)
	}
	for i := range maxProcesses - 2 {
		noError(t, client.HSet(ctx, processesKey, strconv.Itoa(i), now+" {}").Err())
	}
	if err := s.announce(ctx, process("one too many", "gateway")); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("above the limit: %v", err)
	}
	noError(t, s.announce(ctx, process("a", "gateway")))
	long := process("a", "gateway")
	long.Settings["x"] = strings.Repeat("x", maxProcessBytes)
	if err := s.announce(ctx, long); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("a long announcement: %v", err)
	}
}

// TestAnnounceWithoutRedis: the process goes on and stops when it is asked to.
func TestAnnounceWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.URL())
	server.Kill()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	noError(t, s.Announce(ctx, process("a", "gateway")))
}
