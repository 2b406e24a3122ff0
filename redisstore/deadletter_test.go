package redisstore

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
)

func deadLetter(endpoint string, n, size int) core.DeadLetter {
	return core.DeadLetter{
		Delivery: core.Delivery{
			ID: fmt.Sprintf("whd_%d", n), Organization: "acme", Endpoint: endpoint, Attempts: 12,
			Event: &core.Event{ID: fmt.Sprintf("evt_%d", n), Type: "call.received", Body: bytes.Repeat([]byte{0, 'x'}, size/2), AcceptedAt: instant(n)},
		},
		Reason: core.ReasonTimeout, At: instant(n + 100),
	}
}

func namesOf(letters []core.DeadLetter) string {
	var names []string
	for _, l := range letters {
		names = append(names, strings.TrimPrefix(l.Delivery.ID, "whd_"))
	}
	return strings.Join(names, " ")
}

func TestDeadLettersRoundTrip(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a1, b2, a3 := deadLetter("a", 1, 10), deadLetter("b", 2, 0), deadLetter("a", 3, 100)
		b2.Delivery.Event.Body = []byte{}
		for range 2 { // adding is idempotent
			noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{a1, b2, a3, a1}))
		}
		got, err := s.DeadLetters(ctx, "a", 10)
		noError(t, err)
		if diff := cmp.Diff([]core.DeadLetter{a3, a1}, got); diff != "" {
			t.Errorf("of a (-want +got):\n%s", diff)
		}
		got, err = s.DeadLetters(ctx, "b", 10)
		noError(t, err)
		if diff := cmp.Diff([]core.DeadLetter{b2}, got); diff != "" {
			t.Errorf("of b (-want +got):\n%s", diff)
		}
		if got, err = s.DeadLetters(ctx, "a", 1); err != nil || namesOf(got) != "3" {
			t.Errorf("the newest one: %s, %v; want 3", namesOf(got), err)
		}
		if got, err = s.DeadLetters(ctx, "a", 0); len(got) != 0 || err != nil {
			t.Errorf("none: %v, %v", got, err)
		}
		if n := s.client.HGet(ctx, deadIndexKey("a"), ":bytes").Val(); n != "622" {
			t.Errorf("size %s; want %d", n, 10+100+2*256)
		}
		want := DefaultDeadLetterRetention + 24*time.Hour
		for _, key := range []string{deadKey("a"), deadIndexKey("a")} {
			if ttl := s.client.PTTL(ctx, key).Val(); ttl > want || ttl < want-time.Minute {
				t.Errorf("%s ends in %v; want %v", key, ttl, want)
			}
		}
		noError(t, s.AddDeadLetters(ctx, nil))
	})
}

func TestDeadLettersAreBounded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options func(*Options)
		kept    string
		dropped map[string]float64
	}{
		{name: "count", options: func(o *Options) { o.MaxDeadLetters = 3 }, kept: "6 5 4", dropped: map[string]float64{"count": 3}},
		{name: "bytes", options: func(o *Options) { o.MaxDeadLetterBytes = 2*(100+256) + 1 }, kept: "6 5", dropped: map[string]float64{"bytes": 4}},
		{name: "neither", options: func(*Options) {}, kept: "6 5 4 3 2 1", dropped: map[string]float64{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, client := setup(t, tt.options)
			ctx := t.Context()
			noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter("a", 1, 100), deadLetter("a", 2, 100)}))
			noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{
				deadLetter("a", 3, 100), deadLetter("a", 4, 100), deadLetter("a", 5, 100), deadLetter("a", 6, 100),
			}))
			got, err := s.DeadLetters(ctx, "a", 10)
			noError(t, err)
			if namesOf(got) != tt.kept {
				t.Errorf("kept %s; want %s", namesOf(got), tt.kept)
			}
			for _, bound := range deadBounds() {
				if n := testutil.ToFloat64(s.metrics.trimmed.WithLabelValues(bound)); n != tt.dropped[bound] {
					t.Errorf("%v dropped because of %s; want %v", n, bound, tt.dropped[bound])
				}
			}
			if n := client.HLen(ctx, deadIndexKey("a")).Val(); n != int64(len(got)+1) {
				t.Errorf("the index has %d fields; want %d", n, len(got)+1)
			}
			if size := client.HGet(ctx, deadIndexKey("a"), ":bytes").Val(); size != fmt.Sprint(len(got)*(100+256)) {
				t.Errorf("size %s; want that of %d dead letters", size, len(got))
			}
		})
	}
}

func TestOldDeadLettersAreDropped(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter("a", 1, 10)}))
	// The stream's own ids are its clock: an entry of 31 days ago, put before all.
	noError(t, client.Rename(ctx, deadKey("a"), "moved").Err())
	entry := client.XRange(ctx, "moved", "-", "+").Val()[0]
	id := fmt.Sprint(time.Now().Add(-31*24*time.Hour).UnixMilli()) + "-0"
	values := []string{"delivery", "whd_1"}
	for _, field := range []string{"organization", "event", "type", "accepted", "attempts", "reason", "at", "body"} {
		values = append(values, field, entry.Values[field].(string))
	}
	args := []any{"XADD", deadKey("a"), id}
	for _, v := range values {
		args = append(args, v)
	}
	noError(t, client.Do(ctx, args...).Err())

	noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter("a", 2, 10)}))
	got, err := s.DeadLetters(ctx, "a", 10)
	noError(t, err)
	if namesOf(got) != "2" {
		t.Errorf("kept %s; want 2", namesOf(got))
	}
	if n := testutil.ToFloat64(s.metrics.trimmed.WithLabelValues("age")); n != 1 {
		t.Errorf("%v dropped because of their age; want 1", n)
	}
}

func TestManyLargeDeadLettersGoInParts(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	var letters []core.DeadLetter
	for n := range 20 {
		letters = append(letters, deadLetter(fmt.Sprint("e", n%2), n, 300<<10))
	}
	for n := 20; n < 420; n++ {
		letters = append(letters, deadLetter("many", n, 10))
	}
	noError(t, s.AddDeadLetters(ctx, letters))
	for key, want := range map[string]int64{deadKey("e0"): 10, deadKey("e1"): 10, deadKey("many"): 400} {
		if n := client.XLen(ctx, key).Val(); n != want {
			t.Errorf("%s has %d entries; want %d", key, n, want)
		}
	}
}

func TestUnreadableDeadLetterIsAnError(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	noError(t, client.Do(t.Context(), "XADD", deadKey("a"), "*", "delivery", "whd_1").Err())
	if _, err := s.DeadLetters(t.Context(), "a", 1); core.CodeOf(err) != core.CodeInternal {
		t.Errorf("error %v; want an internal one", err)
	}
}
