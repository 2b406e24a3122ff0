package redisstore

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

// ofSize returns n deliveries whose bodies of that many bytes compress to nearly
// nothing.
func ofSize(ref core.EndpointRef, n, size int) []core.Delivery {
	ds := parcels(ref, n, 0)
	for i := range ds {
		ds[i].Event.Body = bytes.Repeat([]byte("x"), size)
	}
	return ds
}

// TestReadsAreBoundedByWhatTheyBecome: of what compresses well no more is read at a
// time than fits into memory, and the largest are read one by one.
func TestReadsAreBoundedByWhatTheyBecome(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	ctx, ref := t.Context(), letterRef("a")
	var ds []core.Delivery
	for _, part := range []struct{ n, size int }{{40, 100}, {9, 1 << 20}, {2, 5 << 20}, {20, 1 << 18}} {
		ds = append(ds, ofSize(ref, part.n, part.size)...)
	}
	want := []int{43, 3, 3, 1, 1, 15, 5}
	park(t, s, core.Parking{Endpoint: ref, Deliveries: ds})
	letters := make([]core.DeadLetter, len(ds))
	for i := range ds {
		letters[i] = core.DeadLetter{Delivery: ds[i], Reason: core.ReasonTimeout, At: instant(i)}
	}
	noError(t, s.AddDeadLetters(ctx, letters))

	var pages []int
	var got []core.Delivery
	for after := ""; ; {
		page, err := s.Backlog(ctx, ref, after, 1000)
		noError(t, err)
		if len(page) == 0 {
			break
		}
		pages, after = append(pages, len(page)), page[len(page)-1].Entry
		got = append(got, deliveriesOf(page)...)
	}
	if diff := cmp.Diff(want, pages); diff != "" {
		t.Errorf("deliveries read at a time (-want +got):\n%s", diff)
	}
	if !cmp.Equal(ds, got, sameBytes) {
		t.Error("the deliveries that were read are others")
	}
	// A dead letter counts for its body alone.
	want, pages, got = []int{43, 4, 2, 1, 1, 16, 4}, nil, nil
	for r := (core.LetterRange{}); ; {
		page, err := s.ReadDeadLetters(ctx, ref, r, 1000)
		noError(t, err)
		if len(page) == 0 {
			break
		}
		pages, r.After = append(pages, len(page)), page[len(page)-1].Entry
		for i := range page {
			got = append(got, page[i].Delivery)
		}
	}
	if diff := cmp.Diff(want, pages); diff != "" {
		t.Errorf("dead letters read at a time (-want +got):\n%s", diff)
	}
	if !cmp.Equal(ds, got, sameBytes) {
		t.Error("the dead letters that were read are others")
	}
}

// TestDecodedSizeOfFrames: Redis knows what a frame becomes.
func TestDecodedSizeOfFrames(t *testing.T) {
	t.Parallel()
	_, client := setup(t)
	decoded := func(stored string) int {
		t.Helper()
		n, err := client.Eval(t.Context(), luaDecoded+"return decoded(ARGV[1])", nil, stored).Int()
		noError(t, err)
		return n
	}
	ref := letterRef("a")
	for _, size := range []int{1, 400, 600, 10_000, 20_000, 1 << 20, 5 << 20} {
		var e frame.Encoder
		encoded, err := e.Encode(ofSize(ref, 1, size))
		noError(t, err)
		want := e.BodySize()
		if size < 500 { // not compressed
			want = len(encoded)
		}
		if got := decoded(string(encoded)); got != want {
			t.Errorf("a frame of a body of %d bytes counts for %d, want %d", size, got, want)
		}
	}
	for _, junk := range []string{"", "x", "\x02\x01", "\x7f newer and longer", "\x02\x01----\xff\xff\xff\xff\xff\xff\xff"} {
		if got := decoded(junk); got < len(junk) {
			t.Errorf("%s counts for %d", fmt.Sprintf("%q", junk), got)
		}
	}
}
