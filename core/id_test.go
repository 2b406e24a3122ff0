package core

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSortableIDs(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000)
	var ids []string
	for i := range 50 {
		ids = append(ids, NewEventID(at.Add(time.Duration(i)*time.Millisecond)))
	}
	if !slices.IsSorted(ids) {
		t.Errorf("ids of later milliseconds do not sort behind earlier ones: %v", ids)
	}
	for _, id := range ids {
		if len(id) != 30 || !strings.HasPrefix(id, "evt_") || !ValidEventID(id) {
			t.Errorf("NewEventID = %q, want evt_ and 26 characters of [A-Za-z0-9_-]", id)
		}
	}
	// 0 ms and the largest 48-bit time: the first ten characters are the time.
	if got := NewDeliveryID(time.UnixMilli(0)); !strings.HasPrefix(got, "whd_0000000000") {
		t.Errorf("NewDeliveryID(epoch) = %q, want ten zeros after the prefix", got)
	}
	if got := NewDeliveryID(time.UnixMilli(1<<48 - 1)); !strings.HasPrefix(got, "whd_7zzzzzzzzz") {
		t.Errorf("NewDeliveryID(2^48-1) = %q, want 7zzzzzzzzz after the prefix", got)
	}
}

func TestPackID(t *testing.T) {
	t.Parallel()
	for range 100 {
		id := NewDeliveryID(time.Now())
		raw, ok := PackID(DeliveryIDPrefix, id)
		if got := UnpackID(DeliveryIDPrefix, raw); !ok || got != id {
			t.Errorf("PackID(%q), unpacked: %q, %t", id, got, ok)
		}
	}
	for _, id := range []string{
		"", "evt_", "whd_" + strings.Repeat("0", 26), "evt_" + strings.Repeat("0", 25), "evt_" + strings.Repeat("0", 27),
		"evt_8" + strings.Repeat("0", 25), "evt_" + strings.Repeat("0", 25) + "u", "evt_" + strings.Repeat("0", 25) + "A",
	} {
		if _, ok := PackID(EventIDPrefix, id); ok {
			t.Errorf("PackID(%q) did not refuse it", id)
		}
	}
}

func TestIDsDoNotRepeat(t *testing.T) {
	t.Parallel()
	now := time.Now()
	seen := make(map[string]bool)
	for range 1000 {
		for _, id := range []string{NewEventID(now), NewEndpointID(), NewToken(), NewAPIKey()} {
			if seen[id] {
				t.Fatalf("%q was given out twice", id)
			}
			seen[id] = true
		}
	}
}

func TestValidEventID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"a": true, "order-17_B": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "a.b": false, "a b": false, "ä": false, "a\n": false,
	} {
		if got := ValidEventID(id); got != want {
			t.Errorf("ValidEventID(%q) = %t, want %t", id, got, want)
		}
	}
}

func TestEndpointIDs(t *testing.T) {
	t.Parallel()
	id := NewEndpointID()
	if !ValidEndpointID(id) || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
		t.Errorf("NewEndpointID = %q, want a UUID of version 4", id)
	}
	for _, bad := range []string{"", "x", strings.ToUpper("f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b14"), "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b1", "f4e9c2a8_7d31-4b6f-9c83-21e5d4a07b14", "f4e9c2a8-7d31-4b6f-9c83-21e5d4a07b1}"} {
		if ValidEndpointID(bad) {
			t.Errorf("ValidEndpointID(%q) = true, want false", bad)
		}
	}
}

func TestValidOrganization(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"acme": true, "a": true, "a_b-9": true, strings.Repeat("a", 64): true,
		"": false, "Acme": false, "a}b": false, "a{b": false, "a:b": false, strings.Repeat("a", 65): false,
	} {
		if got := ValidOrganization(name); got != want {
			t.Errorf("ValidOrganization(%q) = %t, want %t", name, got, want)
		}
	}
}
