package redisstore

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// TestLettersAreReplayedOnce: what was put back is not put back again while its dead
// letter is still there, and can be when it died again.
func TestLettersAreReplayedOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx, ref := t.Context(), letterRef("a")
		replay := func(entries []string, fresh ...string) []string {
			t.Helper()
			p := core.Parking{Endpoint: ref, Deliveries: parcels(ref, len(fresh), 10)}
			for i, id := range fresh {
				p.Deliveries[i].ID = id
			}
			ids, excess, err := s.Replay(ctx, p, entries)
			if err != nil || excess != 0 {
				t.Fatalf("%d too many, %v", excess, err)
			}
			return ids
		}
		waiting := func() (ids []string) {
			t.Helper()
			for _, w := range backlog(t, s, ref) {
				ids = append(ids, w.Delivery.ID)
			}
			return ids
		}
		if diff := cmp.Diff([]string{"whd_1", "whd_2"}, replay([]string{"1-1", "1-2"}, "whd_1", "whd_2")); diff != "" {
			t.Errorf("the first time (-want +got):\n%s", diff)
		}
		// Its answer was lost.
		if diff := cmp.Diff([]string{"whd_2", "whd_5", "whd_1"}, replay([]string{"1-2", "1-3", "1-1"}, "whd_4", "whd_5", "whd_6")); diff != "" {
			t.Errorf("once more (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"whd_1", "whd_2", "whd_5"}, waiting()); diff != "" {
			t.Errorf("waiting (-want +got):\n%s", diff)
		}
		if ttl := s.client.PTTL(ctx, replayedKey("a")).Val(); ttl <= 0 || ttl > replayedLifetime {
			t.Errorf("it is known for %v", ttl)
		}
		noError(t, s.RemoveReplayed(ctx, ref, []string{"1-1", "1-2", "1-3"}))
		if n := s.client.Exists(ctx, replayedKey("a")).Val(); n != 0 {
			t.Error("it is known still, although the letters are gone")
		}
		replay([]string{"1-1"}, "whd_7")
		if diff := cmp.Diff([]string{"whd_1", "whd_2", "whd_5", "whd_7"}, waiting()); diff != "" {
			t.Errorf("in the end (-want +got):\n%s", diff)
		}
		noError(t, s.ForgetEndpoint(ctx, ref))
		if n := s.client.Exists(ctx, replayedKey(ref.ID), backlogKey(ref.ID)).Val(); n != 0 {
			t.Error("something is left of a deleted endpoint")
		}
	})
}

// TestFoundLettersAreBounded: what compresses to nothing counts for what it is when it
// is read.
func TestFoundLettersAreBounded(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	ctx, ref := t.Context(), letterRef("a")
	ids := []string{"whd_none"}
	for n := range 9 {
		l := deadLetter("a", n, 0)
		l.Delivery.Event.Body = bytes.Repeat([]byte("x"), 1<<20)
		noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{l}))
		ids = append(ids, l.Delivery.ID)
	}
	large := deadLetter("a", 9, 0)
	large.Delivery.Event.Body = bytes.Repeat([]byte("x"), 5<<20)
	noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{large}))
	ids = append(ids, large.Delivery.ID, "whd_none")
	var got []int
	for left := ids; len(left) > 0; {
		letters, err := s.FindDeadLetters(ctx, ref, left)
		noError(t, err)
		if len(letters) == 0 {
			t.Fatalf("none of %d is read", len(left))
		}
		for i, l := range letters {
			if (l == nil) != (left[i] == "whd_none") || l != nil && l.Delivery.ID != left[i] {
				t.Errorf("for %s was read %+v", left[i], l)
			}
		}
		got, left = append(got, len(letters)), left[len(letters):]
	}
	if diff := cmp.Diff([]int{5, 4, 1, 2}, got); diff != "" {
		t.Errorf("read at a time (-want +got):\n%s", diff)
	}
}

func TestReplayIsDueWhenItSays(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx, ref := t.Context(), letterRef("a")
	due := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	_, _, err := s.Replay(ctx, core.Parking{Endpoint: ref, Due: due, Deliveries: parcels(ref, 1, 10)}, []string{"1-1"})
	noError(t, err)
	if at := client.ZScore(ctx, waitingKey, memberOf(ref)).Val(); fmt.Sprintf("%.0f", at) != fmt.Sprint(due.UnixMilli()) {
		t.Errorf("looked at at %.0f, want %d", at, due.UnixMilli())
	}
}
