package redisstore

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

func numbersOf(attempts []core.Attempt) string {
	var names []string
	for _, a := range attempts {
		names = append(names, strings.TrimPrefix(a.Delivery, "whd_"))
	}
	return strings.Join(names, " ")
}

func TestRecordAndAttempts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		rows := []core.Attempt{
			attempt("a", 1, core.StatusDelivered), attempt("b", 2, core.StatusRetrying), attempt("a", 3, core.StatusFailed),
			attempt("a", 4, core.StatusDelivered), attempt("a", 5, core.StatusDiscarded),
		}
		noError(t, s.Record(ctx, core.Record{Attempts: rows}))
		got, err := s.Attempts(ctx, "a", false)
		noError(t, err)
		if diff := cmp.Diff([]core.Attempt{rows[4], rows[3], rows[2], rows[0]}, got); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		failures, err := s.Attempts(ctx, "a", true)
		noError(t, err)
		if diff := cmp.Diff([]core.Attempt{rows[4], rows[2]}, failures); diff != "" {
			t.Errorf("failures (-want +got):\n%s", diff)
		}
		last, err := s.LastAttempts(ctx, []string{"b", "nobody", "a"})
		noError(t, err)
		if diff := cmp.Diff([]*core.Attempt{&rows[1], nil, &rows[4]}, last); diff != "" {
			t.Errorf("LastAttempts (-want +got):\n%s", diff)
		}
		for _, key := range []string{attemptsKey("a"), failuresKey("a"), attemptsKey("b"), failuresKey("b")} {
			if ttl := s.client.PTTL(ctx, key).Val(); ttl <= logLifetime-time.Minute || ttl > logLifetime {
				t.Errorf("%s ends in %v; want %v", key, ttl, logLifetime)
			}
		}
		noError(t, s.Record(ctx, core.Record{}))
		if none, err := s.LastAttempts(ctx, nil); len(none) != 0 || err != nil {
			t.Errorf("LastAttempts of nothing = %v, %v", none, err)
		}
	})
}

func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	record := func(from, to int, status core.Status, repeated bool) {
		t.Helper()
		r := core.Record{Repeated: repeated}
		for n := from; n <= to; n++ {
			r.Attempts = append(r.Attempts, attempt("a", n, status))
		}
		noError(t, s.Record(ctx, r))
	}
	check := func(step string, failures bool, newest, oldest, length int) {
		t.Helper()
		got, err := s.Attempts(ctx, "a", failures)
		noError(t, err)
		if len(got) != length || got[0].Delivery != fmt.Sprintf("whd_%d", newest) || got[len(got)-1].Delivery != fmt.Sprintf("whd_%d", oldest) {
			t.Errorf("%s: %d rows: %s; want %d from %d to %d", step, len(got), numbersOf(got), length, newest, oldest)
		}
	}
	record(1, 3, core.StatusFailed, false)
	record(4, 303, core.StatusDelivered, false)
	check("a great batch", false, 303, 204, maxRows)
	check("failures stay", true, 3, 1, 3)
	record(304, 310, core.StatusDelivered, false)
	check("one by one", false, 310, 211, maxRows)
	record(306, 320, core.StatusDelivered, true)
	check("repeated", false, 320, 221, maxRows)
	record(1, 400, core.StatusFailed, true)
	check("a great batch repeated", true, 400, 301, maxRows)
	if n := client.LLen(ctx, attemptsKey("a")).Val(); n != maxRows {
		t.Errorf("%d rows are stored; want %d", n, maxRows)
	}
}

func TestRepeatedRecordWritesEachRowOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		first := []core.Attempt{attempt("a", 1, core.StatusRetrying), attempt("a", 2, core.StatusDelivered)}
		noError(t, s.Record(ctx, core.Record{Attempts: first}))
		second := attempt("a", 1, core.StatusDelivered)
		second.Number = 2                           // another attempt of the same delivery
		ended := attempt("a", 1, core.StatusFailed) // given up later without another attempt
		again := core.Record{Attempts: append(first, second, ended), Repeated: true}
		for range 2 {
			noError(t, s.Record(ctx, again))
		}
		got, err := s.Attempts(ctx, "a", false)
		noError(t, err)
		if diff := cmp.Diff([]core.Attempt{ended, second, first[1], first[0]}, got); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		failures, err := s.Attempts(ctx, "a", true)
		noError(t, err)
		if diff := cmp.Diff([]core.Attempt{ended, first[0]}, failures); diff != "" {
			t.Errorf("failures (-want +got):\n%s", diff)
		}
	})
}

func TestUnreadableRowsHideNothing(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	want := attempt("a", 1, core.StatusDelivered)
	noError(t, s.Record(ctx, core.Record{Attempts: []core.Attempt{want}}))
	noError(t, client.LPush(ctx, attemptsKey("a"), "9|of|tomorrow").Err())
	got, err := s.Attempts(ctx, "a", false)
	noError(t, err)
	if diff := cmp.Diff([]core.Attempt{want}, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if last, err := s.LastAttempts(ctx, []string{"a"}); err != nil || last[0] != nil {
		t.Errorf("LastAttempts = %v, %v; want none", last, err)
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	const done, blob = "sp:{deliver-00}:bundle:x:done", "sp:{deliver-00}:bundle:x"
	tests := []struct {
		name     string
		mark     core.Mark
		bits     []byte // "" for no bitmap
		lifetime time.Duration
		blobGone bool
	}{
		{name: "none", mark: core.Mark{Indexes: []int{1}, Size: 3, All: true}},
		{name: "nothing settled", mark: core.Mark{DoneKey: done, BlobKey: blob, Size: 3, TTL: time.Hour}},
		{name: "some", mark: core.Mark{DoneKey: done, BlobKey: blob, Size: 20, TTL: 2 * time.Hour, Indexes: []int{0, 9, 19}}, bits: []byte{0x80, 0x40, 0x10}, lifetime: openMarkLifetime},
		{name: "some for long", mark: core.Mark{DoneKey: done, Size: 20, TTL: 40 * 24 * time.Hour, Indexes: []int{7}}, bits: []byte{0x01}, lifetime: 80 * 24 * time.Hour},
		{name: "all", mark: core.Mark{DoneKey: done, BlobKey: blob, Size: 20, TTL: 2 * time.Hour, Indexes: []int{3}, All: true}, bits: []byte{0xff, 0xff, 0xf0}, lifetime: 2 * time.Hour, blobGone: true},
		{name: "all without a blob", mark: core.Mark{DoneKey: done, Size: 1, TTL: 5 * time.Minute, All: true}, bits: []byte{0x80}, lifetime: 5 * time.Minute},
		{name: "all of whole bytes", mark: core.Mark{DoneKey: done, BlobKey: blob, Size: 8, TTL: time.Hour, All: true}, bits: []byte{0xff}, lifetime: time.Hour, blobGone: true},
		{name: "all without a lifetime", mark: core.Mark{DoneKey: done, BlobKey: blob, Size: 8, All: true}, bits: []byte{0xff}, lifetime: minMarkLifetime, blobGone: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, s *Store) {
				ctx := t.Context()
				noError(t, s.client.Set(ctx, blob, "blob", 0).Err())
				for range 2 { // a mark may be set again
					noError(t, s.Record(ctx, core.Record{Marks: []core.Mark{tt.mark}}))
				}
				bits, err := s.client.Get(ctx, done).Bytes()
				if err != nil && err != redis.Nil {
					t.Fatal(err)
				}
				if !bytes.Equal(bits, tt.bits) {
					t.Errorf("bitmap %x; want %x", bits, tt.bits)
				}
				ttl := max(0, s.client.PTTL(ctx, done).Val())
				if ttl > tt.lifetime || ttl < tt.lifetime-time.Minute {
					t.Errorf("the bitmap ends in %v; want %v", ttl, tt.lifetime)
				}
				if gone := s.client.Exists(ctx, blob).Val() == 0; gone != tt.blobGone {
					t.Errorf("blob gone: %t; want %t", gone, tt.blobGone)
				}
			})
		})
	}
}

// What ends the task runs behind the last mark, and behind no other.
func TestLastMarkEndsTheTask(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		mark := core.Mark{
			DoneKey: "sp:{q}:bundle:x:done", Size: 2, TTL: time.Hour, Indexes: []int{0},
			End: core.Script{
				Source: "return redis.call('INCRBY', KEYS[2], redis.call('EXISTS', KEYS[1]) * ARGV[1])",
				Keys:   []string{"sp:{q}:bundle:x:done", "sp:{q}:ended"}, Args: []any{10},
			},
		}
		for _, want := range []int{0, 10, 20} {
			noError(t, s.Record(ctx, core.Record{Marks: []core.Mark{mark}}))
			if n, err := s.client.Get(ctx, "sp:{q}:ended").Int(); n != want || err != nil && err != redis.Nil {
				t.Errorf("all settled %t: the script made it %d, %v; want %d", mark.All, n, err, want)
			}
			mark.All = true
		}
	})
}

// When Redis knows the script of the end and not that of the mark, the end runs before
// the mark: it is made up for.
func TestTaskEndsWhateverScriptsAreKnown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t) // of its own: others share their scripts
	s, err := New(Options{Client: server.Client(t)})
	noError(t, err)
	ctx := t.Context()
	end := core.Script{
		Source: "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end return redis.call('INCR', KEYS[2])",
		Keys:   []string{"sp:{q}:bundle:x:done", "sp:{q}:ended"},
	}
	noError(t, s.client.ScriptLoad(ctx, end.Source).Err())
	mark := core.Mark{DoneKey: "sp:{q}:bundle:x:done", BlobKey: "sp:{q}:bundle:x", Size: 2, TTL: time.Hour, All: true, End: end}
	noError(t, s.Record(ctx, core.Record{Marks: []core.Mark{mark}}))
	if n, err := s.client.Get(ctx, "sp:{q}:ended").Int(); n != 1 || err != nil {
		t.Errorf("ended %d times, %v; want once", n, err)
	}
}

func TestMarksAddUp(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	for _, indexes := range [][]int{{1}, {17, 12}, {4}, {4, 16}} {
		noError(t, s.Record(ctx, core.Record{Marks: []core.Mark{{DoneKey: "sp:{q}:bundle:x:done", Size: 19, TTL: time.Hour, Indexes: indexes}}}))
	}
	if bits := client.Get(ctx, "sp:{q}:bundle:x:done").Val(); bits != "\x48\x08\xc0" {
		t.Errorf("bitmap %x; want 4808c0", bits)
	}
}

func TestRefusedBitmapKeepsTheBlob(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	ctx := t.Context()
	noError(t, client.Set(ctx, "sp:{q}:bundle:x", "blob", 0).Err())
	mark := core.Mark{DoneKey: "sp:{q}:bundle:x:done", BlobKey: "sp:{q}:bundle:x", Size: 1, All: true, TTL: time.Hour}
	var b batch
	b.Pipeliner = client.Pipeline()
	b.run(ctx, settleAllScript, []string{mark.DoneKey, mark.BlobKey}, settledBitmap(1), "not a number")
	if err := b.exec(ctx); err == nil {
		t.Fatal("the script succeeded; want Redis to refuse the SET")
	}
	if n := client.Exists(ctx, mark.BlobKey).Val(); n != 1 {
		t.Error("the blob is gone without a bitmap")
	}
	noError(t, s.Record(ctx, core.Record{Marks: []core.Mark{mark}}))
}
