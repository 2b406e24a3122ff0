package redisstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
)

func letterRef(endpoint string) core.EndpointRef {
	return core.EndpointRef{Organization: "acme", ID: endpoint}
}

// addOld adds a dead letter in the form of before there were frames.
func addOld(t *testing.T, s *Store, endpoint string, n int) {
	t.Helper()
	id, ctx := fmt.Sprint("whd_", n), t.Context()
	entry, err := s.client.Do(ctx, "XADD", deadKey(endpoint), "*", "delivery", id, "organization", "acme", "event", fmt.Sprint("evt_", n),
		"type", "call.received", "accepted", instant(n).UnixMilli(), "attempts", 3, "reason", "timeout", "at", instant(n+100).UnixMilli(), "body", "abc").Text()
	noError(t, err)
	noError(t, s.client.HSet(ctx, deadIndexKey(endpoint), id, entry).Err())
	noError(t, s.client.HIncrBy(ctx, deadIndexKey(endpoint), ":bytes", 3+256).Err())
}

func TestDeadLettersAreListedInPages(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		addOld(t, s, "a", 1)
		for n := 2; n <= 40; n++ {
			noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter("a", n, n)}))
		}
		noError(t, s.client.Do(ctx, "XADD", deadKey("a"), "*", "delivery", "whd_41").Err()) // another version's
		addOld(t, s, "a", 42)
		var want, got []string
		for n := 42; n >= 1; n-- {
			want = append(want, fmt.Sprint(n))
		}
		before := ""
		for range 10 {
			page, more, err := s.DeadLetters(ctx, letterRef("a"), before, 17)
			noError(t, err)
			for _, l := range page {
				n := strings.TrimPrefix(l.Delivery.ID, "whd_")
				got = append(got, n)
				if n != "41" && (l.Reason != core.ReasonTimeout || l.Delivery.Event.ID != "evt_"+n) || l.Delivery.Event.Body != nil || l.DiedAt.IsZero() {
					t.Errorf("listed %+v of the event %+v", l, l.Delivery.Event)
				}
				if size := map[string]int{"1": 3, "42": 3, "40": 40}[n]; size != 0 && l.Size != size {
					t.Errorf("%s has %d bytes, want %d", n, l.Size, size)
				}
				before = l.Entry
			}
			if !more {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("listed (-want +got):\n%s", diff)
		}
	})
}

// TestListsOfLargeLettersEndEarly: what a list does not show is not read beyond a bound.
func TestListsOfLargeLettersEndEarly(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	ctx, ref := t.Context(), letterRef("a")
	var want []string
	for n, size := range []int{10, 2 << 20, 400_000, 400_000, 400_000, 10, 10} {
		l := deadLetter("a", n, 0)
		l.Delivery.Event.Body = parcels(ref, 1, size)[0].Event.Body // does not compress
		noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{l}))
		want = append([]string{l.Delivery.ID}, want...)
	}
	var got []string
	var pages []int
	before := ""
	for more := true; more; {
		var page []core.KeptLetter
		var err error
		page, more, err = s.DeadLetters(ctx, ref, before, 100)
		noError(t, err)
		if len(page) == 0 {
			t.Fatal("a page of nothing")
		}
		pages, before = append(pages, len(page)), page[len(page)-1].Entry
		for i := range page {
			got = append(got, page[i].Delivery.ID)
		}
	}
	if diff := cmp.Diff([]int{4, 1, 1, 1}, pages); diff != "" {
		t.Errorf("listed at a time (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

func TestDeadLettersAreFoundAndRemoved(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx, ref := t.Context(), letterRef("a")
		addOld(t, s, "a", 1)
		noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter("a", 2, 1000), deadLetter("a", 3, 10)}))
		got, err := s.FindDeadLetters(ctx, ref, []string{"whd_3", "whd_9", "whd_1", "whd_2"})
		noError(t, err)
		if got[1] != nil {
			t.Errorf("found what is not there: %+v", got[1])
		}
		old := core.DeadLetter{
			Delivery: core.Delivery{ID: "whd_1", Organization: "acme", Endpoint: "a", Attempts: 3, Event: &core.Event{ID: "evt_1", Type: "call.received", Body: []byte("abc"), AcceptedAt: instant(1)}},
			Reason:   core.ReasonTimeout, At: instant(101),
		}
		for i, want := range map[int]core.DeadLetter{0: deadLetter("a", 3, 10), 2: old, 3: deadLetter("a", 2, 1000)} {
			if got[i] == nil {
				t.Fatalf("%s was not found", want.Delivery.ID)
			}
			if diff := cmp.Diff(want, got[i].DeadLetter); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		}
		for range 2 {
			noError(t, s.RemoveReplayed(ctx, ref, []string{got[2].Entry, got[3].Entry}))
		}
		if names := namesOf(lettersOf(t, s, "a")); names != "3" {
			t.Errorf("left are %q, want 3", names)
		}
		if size := s.client.HGet(ctx, deadIndexKey("a"), ":bytes").Val(); size != fmt.Sprint(frameSize(t, deadLetter("a", 3, 10))+256) {
			t.Errorf("the size of one is %s", size)
		}
		noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter("a", 2, 10)})) // it died again
		for _, want := range []int{2, 0} {
			if n, err := s.ClearDeadLetters(ctx, ref); n != want || err != nil {
				t.Errorf("%d were cleared, %v; want %d", n, err, want)
			}
		}
		if left := s.client.Keys(ctx, "sp:*").Val(); len(left) != 0 {
			t.Errorf("left are %q", left)
		}
		if a, b := testutil.ToFloat64(s.metrics.replayed), testutil.ToFloat64(s.metrics.cleared); a != 2 || b != 2 {
			t.Errorf("%v replayed and %v cleared are counted, want 2 and 2", a, b)
		}
	})
}

func TestUnreadableDeadLetterStays(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx, ref := t.Context(), letterRef("a")
	noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter("a", 1, 10)}))
	noError(t, client.Do(ctx, "XADD", deadKey("a"), "*", "delivery", "whd_2", "reason", "timeout", "at", 1, "d", "\x09junk").Err())
	letters, err := s.ReadDeadLetters(ctx, ref, core.LetterRange{}, 10)
	noError(t, err)
	if len(letters) != 2 || letters[0].Delivery.Event == nil || letters[1].Delivery.Event != nil || letters[1].Entry == "" {
		t.Errorf("read %+v", letters)
	}
}

func TestReadsOfDeadLettersAreBounded(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	ctx, ref := t.Context(), letterRef("a")
	want := []string{}
	for n := range 9 {
		want = append(want, fmt.Sprint(n))
		l := deadLetter("a", n, 0)
		l.Delivery.Event.Body = parcels(ref, 1, 1<<20)[0].Event.Body
		noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{l}))
	}
	var got []string
	var pages []int
	for r := (core.LetterRange{}); ; {
		page, err := s.ReadDeadLetters(ctx, ref, r, 100)
		noError(t, err)
		if len(page) == 0 {
			break
		}
		pages = append(pages, len(page))
		for _, l := range page {
			got = append(got, strings.TrimPrefix(l.Delivery.ID, "whd_"))
			r.After = l.Entry
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || slices.Max(pages) > 4 || len(pages) < 2 {
		t.Errorf("read in pages of %d (-want +got):\n%s", pages, diff)
	}
}

func TestRecoveries(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx, ref := t.Context(), letterRef("a")
		noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter("a", 1, 10), deadLetter("a", 2, 10), deadLetter("a", 3, 10)}))
		newest, _, err := s.DeadLetters(ctx, ref, "", 1)
		noError(t, err)
		first := &core.Recovery{ID: "rec_1", Endpoint: ref, CreatedAt: instant(1)}
		noError(t, s.StartRecovery(ctx, first))
		if first.Total != 3 || first.Last != newest[0].Entry || first.State != core.RecoveryRunning {
			t.Errorf("started %+v", first)
		}
		wantCode(t, s.StartRecovery(ctx, &core.Recovery{ID: "rec_2", Endpoint: ref}), core.CodeConflict)
		noError(t, s.StartRecovery(ctx, &core.Recovery{ID: "rec_3", Endpoint: letterRef("b")}))

		claimed, _, err := s.ClaimRecovery(ctx)
		noError(t, err)
		if diff := cmp.Diff(first, claimed); diff != "" {
			t.Fatalf("claimed (-want +got):\n%s", diff)
		}
		// The lease ended: somebody else makes the step.
		other, err := s.Recovery(ctx, ref, "rec_1")
		noError(t, err)
		letters, err := s.ReadDeadLetters(ctx, ref, core.LetterRange{}, 2)
		noError(t, err)
		other.Replayed, other.After = 2, letters[1].Entry
		if done, err := s.StepRecovery(ctx, other, []string{letters[0].Entry, letters[1].Entry}); !done || err != nil {
			t.Fatalf("step: %t, %v", done, err)
		}
		claimed.Replayed = 1
		if done, err := s.StepRecovery(ctx, claimed, []string{letters[0].Entry, newest[0].Entry}); done || err != nil {
			t.Errorf("the same step again: %t, %v", done, err)
		}
		if names := namesOf(lettersOf(t, s, "a")); names != "3" {
			t.Errorf("left are %q, want 3", names)
		}
		if got, err := s.Recovery(ctx, ref, "rec_1"); err != nil || got.Replayed != 2 {
			t.Errorf("the recovery is %+v, %v", got, err)
		}
		other.State, other.EndedAt = core.RecoveryDone, instant(2)
		if done, err := s.StepRecovery(ctx, other, nil); !done || err != nil {
			t.Fatalf("last step: %t, %v", done, err)
		}
		noError(t, s.StartRecovery(ctx, &core.Recovery{ID: "rec_4", Endpoint: ref}))
		_, err = s.Recovery(ctx, ref, "rec_9")
		wantCode(t, err, core.CodeNotFound)
		_, err = s.Recovery(ctx, letterRef("c"), "rec_1")
		wantCode(t, err, core.CodeNotFound)
		if ttl := s.client.PTTL(ctx, recoverKey("a")).Val(); ttl > core.RecoveryLifetime || ttl < core.RecoveryLifetime-time.Minute {
			t.Errorf("recoveries end in %v", ttl)
		}
	})
}

// TestRecoveriesAreLookedAt: what is due is claimed once for the time of a step; what
// has ended, or was deleted, is forgotten.
func TestRecoveriesAreLookedAt(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	claimed := func(want string) {
		t.Helper()
		got := ""
		for range 5 { // what is forgotten takes a call
			r, next, err := s.ClaimRecovery(ctx)
			noError(t, err)
			if r != nil {
				got = r.ID
			}
			if r != nil || next != time.Millisecond {
				break
			}
		}
		if got != want {
			t.Errorf("claimed %q, want %q", got, want)
		}
	}
	claimed("")
	a, b := &core.Recovery{ID: "rec_1", Endpoint: letterRef("a")}, &core.Recovery{ID: "rec_2", Endpoint: letterRef("b")}
	noError(t, s.StartRecovery(ctx, a))
	claimed("rec_1")
	claimed("")
	noError(t, s.DeferRecovery(ctx, a, time.Hour))
	claimed("")
	noError(t, s.StartRecovery(ctx, b))
	noError(t, s.ForgetEndpoint(ctx, b.Endpoint))
	claimed("")
	// The last step was made, and its runner killed before the recovery was dropped.
	a.State = core.RecoveryDone
	_, err := s.StepRecovery(ctx, a, nil)
	noError(t, err)
	noError(t, client.ZAdd(ctx, recoveriesKey, redis.Z{Member: recoveryMember(a)}).Err())
	claimed("")
	if left := client.ZRange(ctx, recoveriesKey, 0, -1).Val(); len(left) != 0 {
		t.Errorf("runners still look at %q", left)
	}
	// A gateway was killed between announcing a recovery and beginning it, or right
	// after it.
	c := &core.Recovery{ID: "rec_3", Endpoint: letterRef("c")}
	noError(t, s.StartRecovery(ctx, c))
	noError(t, client.ZRem(ctx, recoveriesKey, recoveryMember(c)).Err())
	wantCode(t, s.StartRecovery(ctx, &core.Recovery{ID: "rec_4", Endpoint: c.Endpoint}), core.CodeConflict)
	claimed("rec_3")
}

func TestRecoveriesAreBounded(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx, ref := t.Context(), letterRef("a")
	for n := range 3 * maxRecoveries {
		r := &core.Recovery{ID: fmt.Sprintf("rec_%03d", n), Endpoint: ref}
		noError(t, s.StartRecovery(ctx, r))
		r.State = core.RecoveryDone
		_, err := s.StepRecovery(ctx, r, nil)
		noError(t, err)
	}
	if n := client.HLen(ctx, recoverKey("a")).Val(); n != maxRecoveries {
		t.Errorf("%d recoveries are remembered, want %d", n, maxRecoveries)
	}
	_, err := s.Recovery(ctx, ref, fmt.Sprintf("rec_%03d", 3*maxRecoveries-1))
	noError(t, err)
}

func TestCountEntries(t *testing.T) {
	t.Parallel()
	entries := []string{"1000-0", "12345", "3000-1", "3000-0", "2000-10", "2000-9"}
	at := func(ms int64) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms)
	}
	for _, tt := range []struct {
		since, until int64
		n            int
		last         string
	}{
		{0, 0, 5, "3000-1"}, {2000, 0, 4, "3000-1"}, {2001, 3000, 0, ""}, {1000, 3000, 3, "2000-10"}, {0, 1001, 1, "1000-0"}, {4000, 0, 0, ""},
	} {
		if n, last := countEntries(entries, at(tt.since), at(tt.until)); n != tt.n || last != tt.last {
			t.Errorf("from %d to %d: %d, last %q; want %d, %q", tt.since, tt.until, n, last, tt.n, tt.last)
		}
	}
}
