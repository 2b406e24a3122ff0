package redisstore

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

func deadLetter(endpoint string, n, size int) core.DeadLetter {
	return core.DeadLetter{
		Delivery: core.Delivery{
			ID: fmt.Sprintf("whd_%d", n), Organization: "acme", Endpoint: endpoint, Attempts: 12,
			Event: &core.Event{ID: fmt.Sprintf("evt_%d", n), Type: "call.received", Body: bytes.Repeat([]byte{0, 'x'}, size/2), AcceptedAt: instant(n), MaxAge: time.Hour, Origin: &core.Origin{RequestID: "r"}},
		},
		Reason: core.ReasonTimeout, At: instant(n + 100),
	}
}

// lettersOf returns the dead letters of an endpoint with their payloads, newest first.
func lettersOf(t *testing.T, s *Store, endpoint string) []core.DeadLetter {
	t.Helper()
	kept, err := s.ReadDeadLetters(t.Context(), core.EndpointRef{Organization: "acme", ID: endpoint}, core.LetterRange{}, 1000)
	noError(t, err)
	letters := make([]core.DeadLetter, 0, len(kept))
	for _, l := range slices.Backward(kept) {
		letters = append(letters, l.DeadLetter)
	}
	return letters
}

// frameSize returns the bytes that a dead letter takes in its stream.
func frameSize(t *testing.T, l core.DeadLetter) int {
	t.Helper()
	var e frame.Encoder
	encoded, err := e.Encode([]core.Delivery{l.Delivery})
	noError(t, err)
	return len(encoded)
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
		if diff := cmp.Diff([]core.DeadLetter{a3, a1}, lettersOf(t, s, "a")); diff != "" {
			t.Errorf("of a (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]core.DeadLetter{b2}, lettersOf(t, s, "b")); diff != "" {
			t.Errorf("of b (-want +got):\n%s", diff)
		}
		if n := s.client.HGet(ctx, deadIndexKey("a"), ":bytes").Val(); n != fmt.Sprint(frameSize(t, a1)+frameSize(t, a3)+2*256) {
			t.Errorf("size %s; want that of both and 512", n)
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
		{name: "bytes", options: func(o *Options) { o.MaxDeadLetterBytes = 2*(frameSize(t, deadLetter("a", 1, 100))+256) + 1 }, kept: "6 5", dropped: map[string]float64{"bytes": 4}},
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
			got := lettersOf(t, s, "a")
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
			if size := client.HGet(ctx, deadIndexKey("a"), ":bytes").Val(); size != fmt.Sprint(len(got)*(frameSize(t, deadLetter("a", 1, 100))+256)) {
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
	var values []string
	for _, field := range []string{"delivery", "event", "type", "accepted", "attempts", "reason", "at", "size", "d"} {
		values = append(values, field, entry.Values[field].(string))
	}
	args := []any{"XADD", deadKey("a"), id}
	for _, v := range values {
		args = append(args, v)
	}
	noError(t, client.Do(ctx, args...).Err())

	noError(t, s.AddDeadLetters(ctx, []core.DeadLetter{deadLetter("a", 2, 10)}))
	got := lettersOf(t, s, "a")
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
